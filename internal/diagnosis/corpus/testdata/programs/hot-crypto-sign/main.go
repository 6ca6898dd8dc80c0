// Hot-crypto-sign signs a token for every request.
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type issuer struct {
	key *rsa.PrivateKey
	n   atomic.Int64
}

func (i *issuer) token(subject string) (string, error) {
	claims := `{"sub":"` + subject + `","jti":` + strconv.FormatInt(i.n.Add(1), 10) + `}`
	sum := sha256.Sum256([]byte(claims))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:]) // want: cpu-hot-path
	if err != nil {
		return "", err
	}
	return claims + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

func main() {
	s := stage.Start()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		t, err := i.token(r.FormValue("sub"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(t))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/token?sub=ada", Users: 12, Pause: time.Millisecond})
	s.Wait()
}
