package agent

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
)

// The sample is what the agent writes, and the schema names every field of it.
func TestRuntimeFormatIsDocumented(t *testing.T) {
	sample, err := os.ReadFile("../docs/formats/runtime.sample.json")
	if err != nil {
		t.Fatal(err)
	}
	var f runtimeFile
	d := json.NewDecoder(bytes.NewReader(sample))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("the sample holds what the agent does not write: %v", err)
	}
	again, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var fromSample, fromAgent map[string]any
	for b, into := range map[*[]byte]*map[string]any{&sample: &fromSample, &again: &fromAgent} {
		if err := json.Unmarshal(*b, into); err != nil {
			t.Fatal(err)
		}
	}
	schemaText, err := os.ReadFile("../docs/formats/runtime.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(schemaText, &schema); err != nil {
		t.Fatal(err)
	}
	compareFields(t, "runtime.json", fromSample, fromAgent, schema)
}

// compareFields checks that the agent's fields are in the sample and the schema.
func compareFields(t *testing.T, at string, sample, agent map[string]any, schema map[string]any) {
	t.Helper()
	if s, a := slices.Sorted(maps.Keys(sample)), slices.Sorted(maps.Keys(agent)); !slices.Equal(s, a) {
		t.Errorf("%s: the sample has %q, the agent writes %q", at, s, a)
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return // a map by names
	}
	for name, v := range agent {
		sub, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("%s: the schema does not know %s", at, name)
			continue
		}
		if object, ok := v.(map[string]any); ok {
			other, _ := sample[name].(map[string]any)
			compareFields(t, at+"."+name, other, object, sub)
		}
	}
}
