package assembler

// Memory of the program below.
const (
	iovec     = 0    // address and length for fd_write
	written   = 8    // what fd_write reports
	argCount  = 12   // what args_sizes_get reports
	argBytes  = 16   //
	argv      = 32   // room for 2 pointers
	digitsEnd = 576  // decimal digits are written before it
	argText   = 1024 // room for maxArgText
	strings   = 8192

	maxArgText = 4096
	minNumber  = 10
	maxNumber  = 100_000_000
	steps      = 10 // progress lines
)

// Primes is the program of package demo:
//
//	n := number(argv[1])
//	for k := 2; k < n; k++ {
//		if prime(k) { count++ }
//		if k == next { print("  ", count, " primes below ", k, "\n"); next += n/10 }
//	}
//	print(count, " primes below ", n, "\n")
func Primes() []byte {
	m := &Module{}
	p := program{m: m, at: strings}
	i := []Type{I32}
	fdWrite := m.Import("wasi_snapshot_preview1", "fd_write", []Type{I32, I32, I32, I32}, I32)
	argsSizes := m.Import("wasi_snapshot_preview1", "args_sizes_get", []Type{I32, I32}, I32)
	argsGet := m.Import("wasi_snapshot_preview1", "args_get", []Type{I32, I32}, I32)
	exit := m.Import("wasi_snapshot_preview1", "proc_exit", i)
	m.Memory(1)

	// write(fd, address, length)
	p.write = m.Func([]Type{I32, I32, I32}, nil, nil,
		Int32(iovec), Get(1), Store32(0),
		Int32(iovec), Get(2), Store32(4),
		Get(0), Int32(iovec), Int32(1), Int32(written), Call(fdWrite), Drop,
	)
	// number(n) writes n in decimal to standard output.
	p.number = m.Func(i, nil, i,
		Int32(digitsEnd), Set(1),
		Loop(
			Get(1), Int32(1), I32Sub, Set(1),
			Get(1), Get(0), Int32(10), I32RemU, Int32('0'), I32Add, Store8(0),
			Get(0), Int32(10), I32DivU, Set(0),
			Get(0), BrIf(0),
		),
		Int32(1), Get(1), Int32(digitsEnd), Get(1), I32Sub, Call(p.write),
	)
	usage := m.Func(nil, nil, nil,
		p.print(2, "usage: primes N, with N from 10 to 100000000\n"),
		Int32(2), Call(exit),
	)
	prime := p.prime()
	parse := p.parse(usage)

	const n, k, count, next, step = 0, 1, 2, 3, 4
	start := m.Func(nil, nil, []Type{I32, I32, I32, I32, I32},
		Int32(argCount), Int32(argBytes), Call(argsSizes), If(Call(usage)),
		Int32(argCount), Load32(0), Int32(2), I32Ne, If(Call(usage)),
		Int32(argBytes), Load32(0), Int32(maxArgText), I32GtU, If(Call(usage)),
		Int32(argv), Int32(argText), Call(argsGet), If(Call(usage)),
		Int32(argv), Load32(4), Call(parse), Set(n),
		Get(n), Int32(steps), I32DivU, Set(step),
		Get(step), Set(next),
		Int32(2), Set(k),
		Block(Loop(
			Get(k), Get(n), I32GeU, BrIf(1),
			Get(k), Get(next), I32Eq, If(
				p.print(1, "  "), Get(count), Call(p.number), p.print(1, " primes below "), Get(k), Call(p.number), p.print(1, "\n"),
				Get(next), Get(step), I32Add, Set(next),
			),
			Get(count), Get(k), Call(prime), I32Add, Set(count),
			Get(k), Int32(1), I32Add, Set(k),
			Br(0),
		)),
		Get(count), Call(p.number), p.print(1, " primes below "), Get(n), Call(p.number), p.print(1, "\n"),
	)
	m.Export("_start", start)
	return m.Bytes()
}

// A program places its strings one after the other.
type program struct {
	m             *Module
	at            int32
	write, number Func
}

// print writes a constant string.
func (p *program) print(fd int32, s string) Code {
	at := p.at
	p.m.Data(at, s)
	p.at += int32(len(s))
	return Seq(Int32(fd), Int32(at), Int32(int32(len(s))), Call(p.write))
}

// prime(k) is 1 when k is prime, else 0, for k of 2 and above.
func (p *program) prime() Func {
	const k, d = 0, 1
	return p.m.Func([]Type{I32}, []Type{I32}, []Type{I32},
		Get(k), Int32(1), I32And, I32Eqz, If(Get(k), Int32(2), I32Eq, Return),
		Int32(3), Set(d),
		Block(Loop(
			Get(d), Get(d), I32Mul, Get(k), I32GtU, BrIf(1),
			Get(k), Get(d), I32RemU, I32Eqz, If(Int32(0), Return),
			Get(d), Int32(2), I32Add, Set(d),
			Br(0),
		)),
		Int32(1),
	)
}

// parse(address) reads a decimal number that ends with a zero byte.
func (p *program) parse(usage Func) Func {
	const at, n, digit = 0, 1, 2
	return p.m.Func([]Type{I32}, []Type{I32}, []Type{I32, I32},
		Block(Loop(
			Get(at), Load8(0), I32Eqz, BrIf(1),
			Get(at), Load8(0), Int32('0'), I32Sub, Set(digit),
			Get(digit), Int32(9), I32GtU, If(Call(usage)),
			Get(n), Int32(10), I32Mul, Get(digit), I32Add, Set(n),
			Get(n), Int32(maxNumber), I32GtU, If(Call(usage)),
			Get(at), Int32(1), I32Add, Set(at),
			Br(0),
		)),
		Get(n), Int32(minNumber), I32LtU, If(Call(usage)),
		Get(n),
	)
}
