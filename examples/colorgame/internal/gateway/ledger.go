package gateway

import "sync"

// ledger keeps what was announced, for disputes: a ticket for each seat, which
// begins with the announcement and has room for what its player says of it.
type ledger struct {
	mu      sync.Mutex // guards tickets
	tickets [][]byte
}

// The ledger's size: 50 announcements a second of 32 seats are 6 MiB a second.
const (
	ticketBytes = 4 << 10
	ledgerSeats = 32
)

// keep adds the tickets of an announcement. Nobody ever takes one out.
func (l *ledger) keep(announcement []byte, seats int) {
	for range seats {
		ticket := make([]byte, ticketBytes)
		for n := copy(ticket, announcement); n > 0 && n < len(ticket); n *= 2 {
			copy(ticket[n:], ticket[:n])
		}
		l.add(ticket)
	}
}

func (l *ledger) add(ticket []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tickets = append(l.tickets, ticket)
}

// burn forgets everything.
func (l *ledger) burn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tickets = nil
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tickets)
}
