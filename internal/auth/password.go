package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/opscenter/opscenter/internal/ops"
)

// The cost of a password: OWASP's second choice for argon2id, measured at 34 ms
// on a core. With passwordSlots it also bounds the memory that strangers can make
// the centre use: 2 x 19 MiB.
const (
	argonTime     = 2
	argonMemory   = 19 << 10 // KiB
	argonThreads  = 1
	argonKeyBytes = 32
	passwordSlots = 2
	// passwordWait is how long a login waits for a slot before it is told to come
	// back.
	passwordWait = 5 * time.Second
)

// The length of a password. Length is what makes one hard to guess; the upper
// bound only keeps the hash's input small.
const (
	MinPasswordLength = 12
	maxPasswordBytes  = 256
)

// CheckPassword says what is wrong with a password that somebody chose.
func CheckPassword(name, password string) error {
	switch {
	case utf8.RuneCountInString(password) < MinPasswordLength:
		return ops.Errorf(ops.Invalid, "the password has %d characters and needs at least %d: a few random words do", utf8.RuneCountInString(password), MinPasswordLength)
	case len(password) > maxPasswordBytes:
		return ops.Errorf(ops.Invalid, "the password is longer than %d bytes: use a shorter one", maxPasswordBytes)
	case !utf8.ValidString(password):
		return ops.Errorf(ops.Invalid, "the password is not valid UTF-8: type it again")
	case strings.Contains(strings.ToLower(password), strings.ToLower(name)) && len(password) < len(name)+MinPasswordLength:
		return ops.Errorf(ops.Invalid, "the password is the user's name with little else: use other words")
	}
	return nil
}

// hasher makes and checks hashes of passwords, a few at a time.
type hasher struct {
	slots  chan struct{}
	memory int // KiB
	nobody string
}

// newHasher returns one whose new hashes take so much memory (KiB).
func newHasher(memory int) *hasher {
	return &hasher{slots: make(chan struct{}, passwordSlots), memory: memory, nobody: fmt.Sprintf(nobody, argon2.Version, memory, argonTime, argonThreads)}
}

// enter waits for a slot.
func (h *hasher) enter(ctx context.Context) error {
	t := time.NewTimer(passwordWait)
	defer t.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return &RetryError{After: passwordWait, Err: ops.Errorf(ops.Exhausted, "too many people log in at this moment: try again in %v", passwordWait)}
	}
}

// hash returns the password's hash in the PHC format.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	salt := make([]byte, 16)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, argonTime, uint32(h.memory), argonThreads, argonKeyBytes)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, argonTime, argonThreads, b64(salt), b64(key)), nil
}

// nobody is the hash that the password of an unknown user is compared with, so
// that the time of an answer does not tell who exists. No password has it.
const nobody = "$argon2id$v=%d$m=%d,t=%d,p=%d$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// verify reports whether the password has the hash; an empty hash is nobody's.
func (h *hasher) verify(ctx context.Context, hash, password string) (bool, error) {
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer func() { <-h.slots }()
	exists := hash != ""
	if !exists {
		hash = h.nobody
	}
	var version, memory, rounds, threads int
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, ops.Errorf(ops.Corrupt, "a stored password cannot be read: set it anew with `ops user password`")
	}
	_, err1 := fmt.Sscanf(parts[2], "v=%d", &version)
	_, err2 := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &rounds, &threads)
	salt, err3 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err4 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || version != argon2.Version || len(key) == 0 ||
		memory < 8 || memory > 256<<10 || rounds < 1 || rounds > 16 || threads < 1 || threads > 16 {
		return false, ops.Errorf(ops.Corrupt, "a stored password cannot be read: set it anew with `ops user password`")
	}
	if len(password) > maxPasswordBytes {
		password = password[:maxPasswordBytes] // is wrong, and takes as long as any other
		exists = false
	}
	got := argon2.IDKey([]byte(password), salt, uint32(rounds), uint32(memory), uint8(threads), uint32(len(key)))
	return subtle.ConstantTimeCompare(got, key) == 1 && exists, nil
}

// RetryError is an error that goes away by itself.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }
