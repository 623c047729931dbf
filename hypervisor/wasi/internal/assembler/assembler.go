// Package assembler writes small WebAssembly modules (core specification 1.0)
// from Go, so that programs of a few hundred bytes need no other compiler.
package assembler

// A Type is a value type.
type Type byte

// The value types used here.
const (
	I32 Type = 0x7f
	I64 Type = 0x7e
)

// A Func is the index of a function.
type Func uint32

// A Code is a sequence of instructions.
type Code []byte

// A Module is a module under construction. Imports come before functions.
type Module struct {
	types   [][]byte
	imports [][]byte
	funcs   [][]byte // type indices
	bodies  [][]byte
	exports [][]byte
	data    [][]byte
	memory  []byte
}

// Import declares an imported function.
func (m *Module) Import(module, name string, params []Type, results ...Type) Func {
	if len(m.funcs) > 0 {
		panic("assembler: import after a function")
	}
	entry := append(append(text(module), text(name)...), 0)
	m.imports = append(m.imports, append(entry, m.typeOf(params, results)...))
	return Func(len(m.imports) - 1)
}

// Func defines a function. Its locals are numbered after its parameters.
func (m *Module) Func(params, results, locals []Type, body ...Code) Func {
	m.funcs = append(m.funcs, m.typeOf(params, results))
	var groups [][]byte
	for _, l := range locals {
		groups = append(groups, []byte{1, byte(l)})
	}
	code := append(vector(groups), Seq(body...)...)
	code = append(code, 0x0b)
	m.bodies = append(m.bodies, append(unsigned(uint64(len(code))), code...))
	return Func(len(m.imports) + len(m.funcs) - 1)
}

// Export exports a function.
func (m *Module) Export(name string, f Func) {
	m.exports = append(m.exports, append(append(text(name), 0), unsigned(uint64(f))...))
}

// Memory gives the module pages of 64 KiB, and exports them as "memory". It
// may grow without a bound of its own.
func (m *Module) Memory(pages uint32) {
	m.memory = append([]byte{0}, unsigned(uint64(pages))...)
	m.exports = append(m.exports, append(text("memory"), 2, 0))
}

// Data fills memory at an address before the module starts.
func (m *Module) Data(address int32, data string) {
	entry := append([]byte{0}, Int32(address)...)
	entry = append(entry, 0x0b)
	m.data = append(m.data, append(entry, text(data)...))
}

// Bytes returns the module in the binary format.
func (m *Module) Bytes() []byte {
	const header = "\x00asm\x01\x00\x00\x00"
	out := []byte(header)
	section := func(id byte, entries [][]byte) {
		if len(entries) > 0 {
			content := vector(entries)
			out = append(append(append(out, id), unsigned(uint64(len(content)))...), content...)
		}
	}
	section(1, m.types)
	section(2, m.imports)
	section(3, m.funcs)
	if m.memory != nil {
		section(5, [][]byte{m.memory})
	}
	section(7, m.exports)
	section(10, m.bodies)
	section(11, m.data)
	return out
}

func (m *Module) typeOf(params, results []Type) []byte {
	entry := []byte{0x60}
	for _, list := range [][]Type{params, results} {
		entry = append(entry, unsigned(uint64(len(list)))...)
		for _, t := range list {
			entry = append(entry, byte(t))
		}
	}
	for i, t := range m.types {
		if string(t) == string(entry) {
			return unsigned(uint64(i))
		}
	}
	m.types = append(m.types, entry)
	return unsigned(uint64(len(m.types) - 1))
}

func vector(entries [][]byte) []byte {
	out := unsigned(uint64(len(entries)))
	for _, e := range entries {
		out = append(out, e...)
	}
	return out
}

func text(s string) []byte {
	return append(unsigned(uint64(len(s))), s...)
}

// unsigned is LEB128.
func unsigned(v uint64) []byte {
	var out []byte
	for v >= 0x80 {
		out = append(out, byte(v)|0x80)
		v >>= 7
	}
	return append(out, byte(v))
}

// signed is LEB128 with sign extension.
func signed(v int64) []byte {
	var out []byte
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}
