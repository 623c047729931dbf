package assembler

// Opcodes that take part in the nesting of code.
const (
	unreachable = 0x00
	block       = 0x02
	loop        = 0x03
	branchIf    = 0x04
	end         = 0x0b
	emptyType   = 0x40
)

// Instructions without immediate operands, by their names in the text format:
// constants, of a type that has none.
var (
	Unreachable = Code{unreachable}
	Return      = Code{0x0f}
	Drop        = Code{0x1a}
	MemoryGrow  = Code{0x40, 0}

	I32Eqz  = Code{0x45}
	I32Eq   = Code{0x46}
	I32Ne   = Code{0x47}
	I32LtU  = Code{0x49}
	I32GtU  = Code{0x4b}
	I32LeU  = Code{0x4d}
	I32GeU  = Code{0x4f}
	I32Add  = Code{0x6a}
	I32Sub  = Code{0x6b}
	I32Mul  = Code{0x6c}
	I32DivU = Code{0x6e}
	I32RemU = Code{0x70}
	I32And  = Code{0x71}
)

// Seq joins code.
func Seq(parts ...Code) Code {
	var out Code
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Int32 pushes a constant.
func Int32(v int32) Code { return append(Code{0x41}, signed(int64(v))...) }

// Int64 pushes a constant.
func Int64(v int64) Code { return append(Code{0x42}, signed(v)...) }

// Get pushes a local variable.
func Get(local uint32) Code { return append(Code{0x20}, unsigned(uint64(local))...) }

// Set pops a local variable.
func Set(local uint32) Code { return append(Code{0x21}, unsigned(uint64(local))...) }

// Call calls a function.
func Call(f Func) Code { return append(Code{0x10}, unsigned(uint64(f))...) }

// Block runs body; a branch to it goes to its end.
func Block(body ...Code) Code { return nest(block, body) }

// Loop runs body once; a branch to it goes to its beginning.
func Loop(body ...Code) Code { return nest(loop, body) }

// If runs body when the popped number is not 0.
func If(body ...Code) Code { return nest(branchIf, body) }

func nest(op byte, body []Code) Code {
	return append(append(Code{op, emptyType}, Seq(body...)...), end)
}

// Br branches to the depth-th enclosing block, loop or if.
func Br(depth uint32) Code { return append(Code{0x0c}, unsigned(uint64(depth))...) }

// BrIf branches when the popped number is not 0.
func BrIf(depth uint32) Code { return append(Code{0x0d}, unsigned(uint64(depth))...) }

// Load32 pushes the number at the popped address plus offset.
func Load32(offset uint32) Code { return access(0x28, 2, offset) }

// Load8 pushes the byte at the popped address plus offset.
func Load8(offset uint32) Code { return access(0x2d, 0, offset) }

// Store32 pops a number and then the address that it is stored at.
func Store32(offset uint32) Code { return access(0x36, 2, offset) }

// Store8 pops a number and then the address that its lowest byte is stored at.
func Store8(offset uint32) Code { return access(0x3a, 0, offset) }

func access(op, align byte, offset uint32) Code {
	return append(Code{op, align}, unsigned(uint64(offset))...)
}
