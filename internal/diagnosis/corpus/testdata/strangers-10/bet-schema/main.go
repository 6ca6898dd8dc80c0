package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var documents = map[string]string{
	"single": `{"type":"object","required":["player","market","stake"],"additionalProperties":false,
 "properties":{"player":{"type":"string","pattern":"^p-[0-9]{1,9}$"},
  "market":{"$ref":"#/$defs/market"},"stake":{"$ref":"#/$defs/money"}},
 "$defs":{"market":{"type":"string","pattern":"^(1x2|ou|ah)/[a-z]{2,8}/[0-9]+$"},
  "money":{"type":"object","required":["amount","currency"],"properties":{
   "amount":{"type":"integer","minimum":1,"maximum":1000000},
   "currency":{"enum":["EUR","USD","TWD","JPY"]}}}}}`,
	"combo": `{"type":"object","required":["player","legs","stake"],"additionalProperties":false,
 "properties":{"player":{"type":"string","pattern":"^p-[0-9]{1,9}$"},
  "legs":{"type":"array","minItems":2,"maxItems":12,"items":{"type":"string","pattern":"^(1x2|ou|ah)/[a-z]{2,8}/[0-9]+$"}},
  "stake":{"type":"object","required":["amount","currency"],"properties":{
   "amount":{"type":"integer","minimum":1},"currency":{"enum":["EUR","USD","TWD","JPY"]}}}}}`,
}

type Validator interface {
	Check(kind string, body io.Reader) (any, error)
}

type bySchema struct{ docs map[string]string }

func (b bySchema) load(kind string) (*jsonschema.Schema, error) {
	text, ok := b.docs[kind]
	if !ok {
		return nil, fmt.Errorf("unknown slip kind %q", kind)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler() // want: cpu-hot-path
	c.AssertFormat()
	if err := c.AddResource(kind+".json", doc); err != nil {
		return nil, err
	}
	return c.Compile(kind + ".json") // want: cpu-hot-path
}

func (b bySchema) Check(kind string, body io.Reader) (any, error) {
	sch, err := b.load(kind) // want: cpu-hot-path
	if err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(body)
	if err != nil {
		return nil, err
	}
	return v, sch.Validate(v)
}

type desk struct{ valid Validator }

func (d desk) place(w http.ResponseWriter, r *http.Request) error {
	v, err := d.valid.Check(r.PathValue("kind"), http.MaxBytesReader(w, r.Body, 1<<16))
	var bad *jsonschema.ValidationError
	if errors.As(err, &bad) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return json.NewEncoder(w).Encode(map[string]any{"at": bad.InstanceLocation})
	}
	if err != nil {
		return err
	}
	m := v.(map[string]any)
	return json.NewEncoder(w).Encode(map[string]any{"accepted": m["player"]})
}

func handle(fn func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := fn(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
}

func slip() (string, []byte) {
	stake := map[string]any{"amount": 1 + rand.IntN(500), "currency": "EUR"}
	player := fmt.Sprintf("p-%d", rand.IntN(1e6))
	kind, m := "single", map[string]any{"player": player, "stake": stake, "market": "1x2/home/77"}
	if rand.IntN(3) == 0 {
		kind, m = "combo", map[string]any{"player": player, "stake": stake,
			"legs": []string{"1x2/away/12", "ou/over/8", "ah/home/901"}}
	}
	b, _ := json.Marshal(m)
	return kind, b
}

func kiosk(c *http.Client, base string) {
	for {
		kind, b := slip()
		res, err := c.Post(base+"/slips/"+kind, "application/json", bytes.NewReader(b))
		if err != nil {
			log.Print(err)
			time.Sleep(time.Second)
			continue
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		time.Sleep(3 * time.Millisecond)
	}
}

func main() {
	mux := http.NewServeMux()
	mux.Handle("POST /slips/{kind}", handle(desk{valid: bySchema{documents}}.place))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for range 24 {
		go kiosk(c, "http://"+l.Addr().String())
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
