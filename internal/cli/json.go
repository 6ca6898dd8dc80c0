package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// printJSON prints v as the answer.
func (p *program) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s\n", b)
	return err
}

// message renders an API message as the CLI's JSON. It differs from protojson
// where that is hard on the scripts that read it:
//
//   - every field is there, empty or not, under its name in the schema;
//   - 64-bit integers are numbers (sizes and counts, all below 2^53, which
//     every JSON reader holds exactly);
//   - durations are numbers of seconds, in fields named …_seconds;
//   - enum values are lower-case words without their type's name;
//   - times are RFC 3339, and null where they are unset.
type message struct{ proto.Message }

func (m message) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if err := writeMessage(&b, m.ProtoReflect()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func messages[M proto.Message](in []M) []message {
	out := make([]message, 0, len(in))
	for _, m := range in {
		out = append(out, message{m})
	}
	return out
}

func writeMessage(b *bytes.Buffer, m protoreflect.Message) error {
	b.WriteByte('{')
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if i > 0 {
			b.WriteByte(',')
		}
		name := string(fd.Name())
		if isDuration(fd) {
			name += "_seconds"
		}
		fmt.Fprintf(b, "%q:", name)
		if err := writeField(b, fd, m); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func isDuration(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Duration"
}

func writeField(b *bytes.Buffer, fd protoreflect.FieldDescriptor, m protoreflect.Message) error {
	switch {
	case fd.IsMap():
		entries := m.Get(fd).Map()
		var keys []string
		entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys = append(keys, k.String())
			return true
		})
		slices.Sort(keys)
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, k); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := writeValue(b, fd.MapValue(), entries.Get(protoreflect.ValueOfString(k).MapKey())); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		return nil
	case fd.IsList():
		list := m.Get(fd).List()
		b.WriteByte('[')
		for i := range list.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeValue(b, fd, list.Get(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case fd.Message() != nil && !m.Has(fd):
		b.WriteString("null")
		return nil
	}
	return writeValue(b, fd, m.Get(fd))
}

func writeValue(b *bytes.Buffer, fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		switch m := v.Message().Interface().(type) {
		case *timestamppb.Timestamp:
			return writeJSON(b, m.AsTime().Format(time.RFC3339Nano))
		case *durationpb.Duration:
			return writeJSON(b, m.AsDuration().Seconds())
		}
		return writeMessage(b, v.Message())
	case protoreflect.EnumKind:
		word := ""
		if value := fd.Enum().Values().ByNumber(v.Enum()); value != nil && v.Enum() != 0 {
			word = enumWord(value)
		}
		return writeJSON(b, word)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			b.WriteString("null")
			return nil
		}
	}
	return writeJSON(b, v.Interface())
}

func writeJSON(b *bytes.Buffer, v any) error {
	enc, err := json.Marshal(v)
	b.Write(enc)
	return err
}

// word is an enum value as people read it: CAPTURE_STATE_DONE is "done".
func word(e protoreflect.Enum) string {
	value := e.Descriptor().Values().ByNumber(e.Number())
	if value == nil || e.Number() == 0 {
		return ""
	}
	return enumWord(value)
}

func enumWord(v protoreflect.EnumValueDescriptor) string {
	var prefix strings.Builder // CaptureState → CAPTURE_STATE_
	for i, r := range string(v.Parent().Name()) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			prefix.WriteByte('_')
		}
		prefix.WriteRune(r)
	}
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), strings.ToUpper(prefix.String())+"_"))
}
