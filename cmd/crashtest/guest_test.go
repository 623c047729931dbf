package crashtest

import "encoding/binary"

// sleeper is a WASI module that sleeps in steps of 50 ms and never ends by
// itself: an environment that lives without taking the processor from the
// daemons.
func sleeper() []byte {
	section := func(id byte, content ...byte) []byte { return append([]byte{id, byte(len(content))}, content...) }
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	join := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	subscription := make([]byte, 48)
	binary.LittleEndian.PutUint32(subscription[16:], 1)   // CLOCK_MONOTONIC
	binary.LittleEndian.PutUint64(subscription[24:], 5e7) // nanoseconds
	code := []byte{
		0,          // no locals
		0x03, 0x40, // loop
		0x41, 0x00, // the subscription is at 0
		0x41, 0xc0, 0x00, // its event goes to 64
		0x41, 0x01, // one of them
		0x41, 0x80, 0x01, // their number goes to 128
		0x10, 0x00, // call poll_oneoff
		0x1a,       // drop its result
		0x0c, 0x00, // again
		0x0b, 0x0b,
	}
	return join(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, 2, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0), // types: of poll_oneoff, of _start
		section(2, join([]byte{1}, name("wasi_snapshot_preview1"), name("poll_oneoff"), []byte{0, 0})...),
		section(3, 1, 1),    // one function, of type 1
		section(5, 1, 0, 1), // one page of memory
		section(7, join([]byte{2}, name("memory"), []byte{2, 0}, name("_start"), []byte{0, 1})...),
		section(10, join([]byte{1, byte(len(code))}, code)...),
		section(11, join([]byte{1, 0, 0x41, 0, 0x0b, byte(len(subscription))}, subscription)...),
	)
}
