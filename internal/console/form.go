package console

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Form is a method and every type that its messages are made of.
type Form struct {
	Method Method
	// Types by full name, of messages and of enums. More than 500 are not
	// listed; their messages are written as JSON.
	Types map[string]Type
}

// Type is a message or an enum.
type Type struct {
	Comment string
	Fields  []Field     // of a message, in the order of its source
	Values  []EnumValue // of an enum
}

// EnumValue is one of an enum's.
type EnumValue struct {
	Name    string
	Number  int32
	Comment string
}

// Field of a message.
type Field struct {
	Name, JSONName string
	Number         int32
	// Kind is protobuf's word: "int64", "string", "bytes", "message", "enum" …, or
	// "map".
	Kind string
	// Type is the full name of the message or enum.
	Type string
	// MapKey is the kind of a map's keys, and MapValue describes its values.
	MapKey   string
	MapValue *Field
	Repeated bool
	// Presence is whether being unset differs from having the zero value.
	Presence bool
	Required bool
	// Oneof is the name of the oneof that the field is in; "" = none.
	Oneof      string
	Default    string
	Deprecated bool
	Comment    string
}

// maxTypes bounds a form: descriptors of some APIs reach into everything.
const maxTypes = 500

func formOf(m protoreflect.MethodDescriptor) Form {
	f := Form{Method: methodOf(m), Types: map[string]Type{}}
	f.add(m.Input())
	f.add(m.Output())
	return f
}

func (f *Form) add(md protoreflect.MessageDescriptor) {
	queue := []protoreflect.MessageDescriptor{md}
	for len(queue) > 0 {
		md, queue = queue[0], queue[1:]
		name := string(md.FullName())
		if _, there := f.Types[name]; there || len(f.Types) >= maxTypes || md.IsPlaceholder() {
			continue
		}
		t := Type{Comment: comment(md)}
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			t.Fields = append(t.Fields, fieldOf(fd))
			value := fd
			if fd.IsMap() {
				value = fd.MapValue()
			}
			if next := value.Message(); next != nil {
				queue = append(queue, next)
			}
			if e := value.Enum(); e != nil {
				f.addEnum(e)
			}
		}
		f.Types[name] = t
	}
}

func (f *Form) addEnum(e protoreflect.EnumDescriptor) {
	if e.IsPlaceholder() || len(f.Types) >= maxTypes {
		return
	}
	t := Type{Comment: comment(e)}
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		t.Values = append(t.Values, EnumValue{Name: string(v.Name()), Number: int32(v.Number()), Comment: comment(v)})
	}
	f.Types[string(e.FullName())] = t
}

func fieldOf(fd protoreflect.FieldDescriptor) Field {
	out := Field{
		Name: string(fd.Name()), JSONName: fd.JSONName(), Number: int32(fd.Number()),
		Kind: fd.Kind().String(), Repeated: fd.IsList(), Presence: fd.HasPresence(), Required: fd.Cardinality() == protoreflect.Required,
		Comment: comment(fd),
	}
	if o, ok := fd.Options().(interface{ GetDeprecated() bool }); ok {
		out.Deprecated = o.GetDeprecated()
	}
	if oneof := fd.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		out.Oneof = string(oneof.Name())
	}
	switch {
	case fd.IsMap():
		value := fieldOf(fd.MapValue())
		out.Kind, out.MapKey, out.MapValue = "map", fd.MapKey().Kind().String(), &value
	case fd.Message() != nil:
		out.Type = string(fd.Message().FullName())
	case fd.Enum() != nil:
		out.Type = string(fd.Enum().FullName())
	}
	if fd.HasDefault() {
		out.Default = fd.Default().String()
	}
	return out
}
