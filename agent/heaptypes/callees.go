package heaptypes

import "strings"

// operand is which integer argument of the calling convention holds the
// descriptor of the type.
type operand int8

const (
	noOperand operand = -1
	first     operand = 0
	second    operand = 1
	fifth     operand = 4
)

// callee is a function of the runtime that compiled code calls to allocate.
type callee struct {
	operand operand
	form    Form
	// implied is the type where no operand says it.
	implied impliedType
}

// impliedType is a type that is known without a descriptor.
type impliedType struct {
	name, kind string
	size       int64
}

// isMalloc says that a function is the allocator proper: the leaf of a stack
// that is an allocation, and not something that the allocator did meanwhile.
// Go 1.27 has one for each size class.
func isMalloc(name string) bool {
	return strings.HasPrefix(name, "runtime.malloc") || strings.HasPrefix(name, "runtime.newobject") || name == "runtime.profilealloc" || name == "internal/bytealg.MakeNoZero"
}

// isDetour says that what lies below a function of that name is the runtime's
// own work and not what the user's call asked for.
func isDetour(name string) bool {
	switch name {
	case "runtime.systemstack", "runtime.mcall", "runtime.acquireSudog", "runtime.gcAssistAlloc", "runtime.deductAssistCredit", "runtime.deductSweepCredit":
		return true
	}
	return false
}

// isRuntime says that a function is on the allocator's side of the call.
func isRuntime(name string) bool {
	if strings.HasPrefix(name, "runtime.") {
		switch name {
		case "runtime.main", "runtime.doInit", "runtime.doInit1":
			return false // they call the program
		}
		return true
	}
	return strings.HasPrefix(name, "internal/runtime/") || name == "internal/bytealg.MakeNoZero"
}

// isReflect says that the type of what a function allocates is an argument of
// its own that no code holds.
func isReflect(name string) bool {
	return strings.HasPrefix(name, "reflect.") || strings.HasPrefix(name, "internal/reflectlite.")
}

// allocator returns what is known of the allocator of that name.
func allocator(name string) (callee, bool) {
	if c, ok := allocators[name]; ok {
		return c, true
	}
	if strings.HasPrefix(name, "runtime.mallocgc") { // (size, type, needzero)
		return callee{operand: second, form: FormNew}, true
	}
	if rest, ok := strings.CutPrefix(name, "runtime."); ok && rest != "" && (rest[0] == '(' || rest[0] >= 'A' && rest[0] <= 'Z') {
		// What programs call by name allocates for itself.
		return callee{operand: noOperand, form: FormRuntime, implied: runtimeOther}, true
	}
	return callee{}, false
}

var (
	text         = impliedType{"string", "string", 16}
	byteSlice    = impliedType{"[]uint8", "slice", 24}
	runeSlice    = impliedType{"int32", "int32", 4}
	mapHeader    = impliedType{"map (header)", "", 48}
	noPointers   = impliedType{name: "data without pointers"}
	runtimeOther = impliedType{name: "runtime internals"}
)

// allocators is which argument holds the type, by function, for Go 1.24 to 1.27.
// It is not changed.
var allocators = map[string]callee{
	"runtime.newobject":           {first, FormNew, impliedType{}},
	"runtime.newarray":            {first, FormSlice, impliedType{}},
	"runtime.makeslice":           {first, FormSlice, impliedType{}},
	"runtime.makeslice64":         {first, FormSlice, impliedType{}},
	"runtime.makeslicecopy":       {first, FormSlice, impliedType{}},
	"runtime.growslice":           {fifth, FormSlice, impliedType{}},
	"runtime.growsliceNoAlias":    {fifth, FormSlice, impliedType{}},
	"runtime.growsliceBuf":        {fifth, FormSlice, impliedType{}},
	"runtime.growsliceBufNoAlias": {fifth, FormSlice, impliedType{}},
	"runtime.moveSlice":           {first, FormSlice, impliedType{}},
	"runtime.moveSliceNoCap":      {first, FormSlice, impliedType{}},
	"runtime.makechan":            {first, FormChan, impliedType{}},
	"runtime.makechan64":          {first, FormChan, impliedType{}},
	"runtime.makemap":             {first, FormMap, impliedType{}},
	"runtime.makemap64":           {first, FormMap, impliedType{}},
	"runtime.makemap_small":       {noOperand, FormMap, mapHeader},
	"runtime.mapassign":           {first, FormMap, impliedType{}},
	"runtime.mapassign_fast32":    {first, FormMap, impliedType{}},
	"runtime.mapassign_fast32ptr": {first, FormMap, impliedType{}},
	"runtime.mapassign_fast64":    {first, FormMap, impliedType{}},
	"runtime.mapassign_fast64ptr": {first, FormMap, impliedType{}},
	"runtime.mapassign_faststr":   {first, FormMap, impliedType{}},
	"runtime.mapclone":            {first, FormMap, impliedType{}},

	"internal/runtime/maps.NewMap":      {first, FormMap, impliedType{}},
	"internal/runtime/maps.NewEmptyMap": {noOperand, FormMap, mapHeader},

	"runtime.convT":       {first, FormInterface, impliedType{}},
	"runtime.convTnoptr":  {first, FormInterface, impliedType{}},
	"runtime.convT16":     {noOperand, FormInterface, impliedType{"2-byte value", "", 2}},
	"runtime.convT32":     {noOperand, FormInterface, impliedType{"4-byte value", "", 4}},
	"runtime.convT64":     {noOperand, FormInterface, impliedType{"8-byte value", "", 8}},
	"runtime.convTstring": {noOperand, FormInterface, text},
	"runtime.convTslice":  {noOperand, FormInterface, impliedType{"slice (header)", "slice", 24}},

	"runtime.concatstring2":       {noOperand, FormString, text},
	"runtime.concatstring3":       {noOperand, FormString, text},
	"runtime.concatstring4":       {noOperand, FormString, text},
	"runtime.concatstring5":       {noOperand, FormString, text},
	"runtime.concatstrings":       {noOperand, FormString, text},
	"runtime.intstring":           {noOperand, FormString, text},
	"runtime.slicebytetostring":   {noOperand, FormString, text},
	"runtime.slicerunetostring":   {noOperand, FormString, text},
	"runtime.rawstring":           {noOperand, FormString, text},
	"runtime.rawstringtmp":        {noOperand, FormString, text},
	"runtime.concatbyte2":         {noOperand, FormBytes, byteSlice},
	"runtime.concatbyte3":         {noOperand, FormBytes, byteSlice},
	"runtime.concatbyte4":         {noOperand, FormBytes, byteSlice},
	"runtime.concatbyte5":         {noOperand, FormBytes, byteSlice},
	"runtime.concatbytes":         {noOperand, FormBytes, byteSlice},
	"runtime.stringtoslicebyte":   {noOperand, FormBytes, byteSlice},
	"runtime.rawbyteslice":        {noOperand, FormBytes, byteSlice},
	"runtime.stringtoslicerune":   {noOperand, FormSlice, runeSlice},
	"runtime.rawruneslice":        {noOperand, FormSlice, runeSlice},
	"internal/bytealg.MakeNoZero": {noOperand, FormBytes, byteSlice},

	"runtime.newproc":                  {noOperand, FormRuntime, impliedType{name: "runtime.g"}},
	"runtime.deferproc":                {noOperand, FormRuntime, impliedType{name: "runtime._defer"}},
	"runtime.deferprocat":              {noOperand, FormRuntime, impliedType{name: "runtime._defer"}},
	"runtime.deferrangefunc":           {noOperand, FormRuntime, impliedType{name: "runtime._defer"}},
	"runtime.selectgo":                 {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"runtime.chanrecv1":                {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"runtime.chanrecv2":                {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"runtime.chansend1":                {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"sync.runtime_notifyListAdd":       {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"sync.runtime_notifyListWait":      {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"sync.runtime_Semacquire":          {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
	"runtime.typeAssert":               {noOperand, FormRuntime, impliedType{name: "runtime.itab"}},
	"runtime.interfaceSwitch":          {noOperand, FormRuntime, impliedType{name: "runtime.itab"}},
	"runtime.assertE2I":                {noOperand, FormRuntime, impliedType{name: "runtime.itab"}},
	"runtime.assertE2I2":               {noOperand, FormRuntime, impliedType{name: "runtime.itab"}},
	"runtime.newosproc":                {noOperand, FormRuntime, impliedType{name: "runtime.m"}},
	"time.newTimer":                    {noOperand, FormRuntime, impliedType{name: "time.Timer", size: 104}},
	"runtime.gopanic":                  {noOperand, FormRuntime, runtimeOther},
	"internal/poll.runtime_Semacquire": {noOperand, FormRuntime, impliedType{name: "runtime.sudog"}},
}

// hiddenInProfiles is which functions package runtime/pprof leaves out at the
// leaf of a heap profile's stacks.
func hiddenInProfiles(name string) bool {
	return strings.HasPrefix(name, "runtime.") || strings.HasPrefix(name, "internal/runtime/")
}
