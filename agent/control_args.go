package agent

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// ParamType is how an argument is read.
type ParamType int

// The types of parameters.
const (
	String   ParamType = iota // any text, at most 4096 bytes
	Int                       // a whole number
	Float                     // a number
	Bool                      // true or false
	Duration                  // as in Go: "1m30s"
	Size                      // bytes, with or without a unit: "512MiB"
	Enum                      // one of Choices
)

// Param is a parameter of a Control.
type Param struct {
	// Name follows the rules of a control's.
	Name, Description string
	Type              ParamType
	// Required parameters have no Default.
	Required bool
	// Default is what holds where no argument is given, as text. Empty = the type's
	// zero.
	Default string
	// Min and Max bound numbers, durations and sizes, inclusive; empty = no bound.
	Min, Max string
	// Choices of an Enum. Of another type, words that may be given in place of its
	// own form, such as "off": Args.Word tells them.
	Choices []string
	// Secret keeps the argument out of every record.
	Secret bool
}

// Args are the arguments of one call, checked against the parameters. A getter
// returns the zero value for a parameter that has neither argument nor default,
// and for one that the control does not have.
type Args struct{ values map[string]any }

// String returns an argument of type String or Enum.
func (a Args) String(name string) string { v, _ := a.values[name].(string); return v }

// Int returns an argument of type Int or Size.
func (a Args) Int(name string) int64 { v, _ := a.values[name].(int64); return v }

// Float returns an argument of type Float.
func (a Args) Float(name string) float64 { v, _ := a.values[name].(float64); return v }

// Bool returns an argument of type Bool.
func (a Args) Bool(name string) bool { v, _ := a.values[name].(bool); return v }

// Duration returns an argument of type Duration.
func (a Args) Duration(name string) time.Duration { v, _ := a.values[name].(time.Duration); return v }

// Word returns an argument that is one of the Choices of a parameter whose type
// has another form; empty where it is none.
func (a Args) Word(name string) string { v, _ := a.values[name].(word); return string(v) }

// Has reports whether there is an argument or a default.
func (a Args) Has(name string) bool { _, ok := a.values[name]; return ok }

type word string

const maxArgBytes = 4096

func checkParams(params []Param) error {
	for i, p := range params {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("parameter %.64q: "+format, append([]any{p.Name}, args...)...)
		}
		switch {
		case !controlName.MatchString(p.Name) || len(p.Name) > maxControlName:
			return bad("the name is not valid: use up to %d lower-case letters, digits, dots, underscores and hyphens", maxControlName)
		case slices.ContainsFunc(params[:i], func(o Param) bool { return o.Name == p.Name }):
			return bad("there are two of that name")
		case p.Type < String || p.Type > Enum:
			return bad("the type %d is unknown", p.Type)
		case p.Type == Enum && len(p.Choices) == 0:
			return bad("an enum needs choices")
		case p.Required && p.Default != "":
			return bad("what is required has no default")
		case len(p.Description) > maxControlText:
			return bad("the description is too long: keep it within %d bytes", maxControlText)
		}
		unbounded := p
		unbounded.Min, unbounded.Max = "", ""
		for _, bound := range []string{p.Min, p.Max} {
			if _, err := unbounded.parse(bound); bound != "" && err != nil {
				return bad("the bound %w", err)
			}
		}
		if _, err := p.parse(p.Default); p.Default != "" && err != nil {
			return bad("the default %w", err)
		}
	}
	return nil
}

// parseArgs reads the arguments of a call.
func parseArgs(params []Param, given map[string]string) (Args, error) {
	args := Args{values: map[string]any{}}
	for name := range given {
		if !slices.ContainsFunc(params, func(p Param) bool { return p.Name == name }) {
			return args, fmt.Errorf("there is no parameter %.64q: %s", name, paramNames(params))
		}
	}
	for _, p := range params {
		text, ok := given[p.Name]
		if !ok {
			if p.Required {
				return args, fmt.Errorf("%s is missing: %s", p.Name, p.form())
			}
			if text = p.Default; text == "" {
				continue
			}
		}
		v, err := p.parse(text)
		if err != nil {
			return args, fmt.Errorf("%s %w", p.Name, err)
		}
		args.values[p.Name] = v
	}
	return args, nil
}

func paramNames(params []Param) string {
	if len(params) == 0 {
		return "it takes none"
	}
	var names []string
	for _, p := range params {
		names = append(names, p.Name)
	}
	return "it takes " + strings.Join(names, ", ")
}

// form says what an argument has to look like.
func (p Param) form() string {
	var form string
	switch p.Type {
	case Int:
		form = "a whole number"
	case Float:
		form = "a number"
	case Bool:
		form = "true or false"
	case Duration:
		form = "a duration such as 1m30s"
	case Size:
		form = "a size such as 512MiB"
	case Enum:
		return "use one of " + strings.Join(p.Choices, ", ")
	default:
		return fmt.Sprintf("use a text of at most %d bytes", maxArgBytes)
	}
	switch {
	case p.Min != "" && p.Max != "":
		form += fmt.Sprintf(" from %s to %s", p.Min, p.Max)
	case p.Min != "":
		form += ", at least " + p.Min
	case p.Max != "":
		form += ", at most " + p.Max
	}
	if len(p.Choices) > 0 {
		form += ", or " + strings.Join(p.Choices, ", ")
	}
	return "use " + form
}

// parse reads one argument. The error begins with what was given, or hides it.
func (p Param) parse(text string) (any, error) {
	bad := func() error {
		if p.Secret {
			return fmt.Errorf("is not valid: %s", p.form())
		}
		return fmt.Errorf("%.80q is not valid: %s", text, p.form())
	}
	if len(text) > maxArgBytes {
		return nil, bad()
	}
	if p.Type != Enum && p.Type != String && slices.Contains(p.Choices, text) {
		return word(text), nil
	}
	v, err := p.read(text)
	if err != nil {
		return nil, bad()
	}
	for i, bound := range []string{p.Min, p.Max} {
		if bound == "" {
			continue
		}
		limit, err := p.read(bound)
		if order, comparable := compare(v, limit); err == nil && comparable && (i == 0 && order < 0 || i == 1 && order > 0) {
			return nil, bad()
		}
	}
	return v, nil
}

func (p Param) read(text string) (any, error) {
	switch p.Type {
	case Int:
		return strconv.ParseInt(text, 10, 64)
	case Float:
		f, err := strconv.ParseFloat(text, 64)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, errors.New("not a number")
		}
		return f, err
	case Bool:
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, errors.New("not a bool")
	case Duration:
		return time.ParseDuration(text)
	case Size:
		return parseSize(text)
	case Enum:
		if !slices.Contains(p.Choices, text) {
			return nil, errors.New("not a choice")
		}
	}
	return text, nil
}

func compare(a, b any) (order int, comparable bool) {
	switch a := a.(type) {
	case int64:
		b, ok := b.(int64)
		return sign(a, b), ok
	case float64:
		b, ok := b.(float64)
		return sign(a, b), ok
	case time.Duration:
		b, ok := b.(time.Duration)
		return sign(a, b), ok
	}
	return 0, false
}

func sign[T int64 | float64 | time.Duration](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// sizeUnits are those that a size may have, the longer names first.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1}, {"", 1},
}

func parseSize(text string) (int64, error) {
	lower := strings.ToLower(strings.TrimSpace(text))
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(lower, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(f) || f < 0 || f*u.bytes >= math.MaxInt64 {
			return 0, fmt.Errorf("%q is no size", text)
		}
		return int64(f * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is no size", text)
}

// sizeText writes a size so that parseSize reads the same.
func sizeText(n int64) string {
	for _, u := range []struct {
		name string
		bits uint
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n >= 1<<u.bits && n%(1<<u.bits) == 0 {
			return strconv.FormatInt(n>>u.bits, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

var paramTypes = map[ParamType]agentv1.ControlParamType{
	String: agentv1.ControlParamType_CONTROL_PARAM_TYPE_STRING, Int: agentv1.ControlParamType_CONTROL_PARAM_TYPE_INT,
	Float: agentv1.ControlParamType_CONTROL_PARAM_TYPE_FLOAT, Bool: agentv1.ControlParamType_CONTROL_PARAM_TYPE_BOOL,
	Duration: agentv1.ControlParamType_CONTROL_PARAM_TYPE_DURATION, Size: agentv1.ControlParamType_CONTROL_PARAM_TYPE_SIZE,
	Enum: agentv1.ControlParamType_CONTROL_PARAM_TYPE_ENUM,
}

func (p Param) proto() *agentv1.ControlParam {
	return &agentv1.ControlParam{
		Name: p.Name, Description: p.Description, Type: paramTypes[p.Type], Required: p.Required, DefaultValue: p.Default,
		Min: p.Min, Max: p.Max, Choices: p.Choices, Secret: p.Secret,
	}
}
