package audit

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// Masked stands where a secret was.
const Masked = "[masked]"

// secretNames are parts of the names of fields and headers that hold secrets,
// in lower case and without separators.
var secretNames = []string{
	"password", "passwd", "passphrase", "secret", "token", "authorization", "credential",
	"apikey", "accesskey", "privatekey", "signingkey", "cookie", "sessionid", "bearer", "jwt",
}

// SecretName reports whether a field, header or variable of that name is taken
// to hold a secret: "db_password", "X-Api-Key", "accessToken".
func SecretName(name string) bool {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
	if plain == "pwd" || plain == "pin" || plain == "otp" {
		return true
	}
	for _, part := range secretNames {
		if strings.Contains(plain, part) {
			return true
		}
	}
	return false
}

// secretTexts find secrets by how they look, wherever they stand.
var secretTexts = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), Masked},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "$1 " + Masked},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), Masked},
	{regexp.MustCompile(`://([^/\s:@"]*):[^/\s@"]+@`), "://$1:" + Masked + "@"},
	{regexp.MustCompile(`(?i)\b(password|passwd|pwd|secret|token|api[_-]?key)(\s*[=:]\s*)[^\s,;&"]+`), "$1$2" + Masked},
}

// MaskText replaces what looks like a secret in a text for people.
func MaskText(s string) string {
	for _, t := range secretTexts {
		s = t.pattern.ReplaceAllString(s, t.with)
	}
	return s
}

// MaskJSON replaces the values of fields whose names say that they are secret,
// and what looks like a secret in the others. What is not JSON becomes a JSON
// string. The result is compact, with the fields of objects in order of their
// names.
func MaskJSON(raw []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // int64 must not lose digits
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		v = clean(string(raw))
	}
	out, err := encode(maskValue(v))
	if err != nil {
		return []byte(`"` + Masked + `"`) // cannot be, for it was decoded from JSON
	}
	return out
}

func maskValue(v any) any {
	switch v := v.(type) {
	case string:
		return MaskText(v)
	case []any:
		for i := range v {
			v[i] = maskValue(v[i])
		}
	case map[string]any:
		for name, field := range v {
			if SecretName(name) && field != nil {
				v[name] = Masked
			} else {
				v[name] = maskValue(field)
			}
		}
	}
	return v
}
