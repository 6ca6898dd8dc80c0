// Import-errgroup-bcrypt moves accounts from an old service.
package main

import (
	"context"
	"strconv"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type account struct {
	id     int
	secret []byte
}

type importer struct {
	cost int
	done chan account
}

func (i *importer) convert(a account) (account, error) {
	sum, err := bcrypt.GenerateFromPassword(a.secret, i.cost) // want: cpu-password-hashing
	return account{a.id, sum}, err
}

func each[T, R any](ctx context.Context, in []T, limit int, do func(T) (R, error)) ([]R, error) {
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	out := make([]R, len(in))
	for i, v := range in {
		g.Go(func() (err error) {
			out[i], err = do(v)
			return err
		})
	}
	return out, g.Wait()
}

func main() {
	s := stage.Start()
	i := &importer{cost: 10}
	go func() {
		for n := 0; ; n++ {
			page := make([]account, 50)
			for k := range page {
				page[k] = account{n*50 + k, []byte("secret " + strconv.Itoa(k))}
			}
			if _, err := each(s.Context(), page, 4, i.convert); err != nil {
				panic(err)
			}
		}
	}()
	s.Wait()
}
