package session

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

func mustMarshal(f *testing.F, m proto.Message) []byte {
	f.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// FuzzHandle has a stranger send anything to a host: it answers, and nothing
// starts and nothing is held that was not asked for rightly.
func FuzzHandle(f *testing.F) {
	w := newFuzzWorld(f)
	terms, err := ledger.Encode(w.request().Terms)
	if err != nil {
		f.Fatal(err)
	}
	id := ledger.ID{7}
	f.Add(mustMarshal(f, &wire.SessionRequest{Call: &wire.SessionRequest_Propose{Propose: &wire.SessionPropose{
		Id: id[:], Order: w.order.Marshal(), Terms: terms, Cap: 5, Seconds: 60,
	}}}))
	f.Add(mustMarshal(f, &wire.SessionRequest{Call: &wire.SessionRequest_Confirm{Confirm: &wire.SessionConfirm{
		Agreement: w.order.Marshal(), Authorization: w.order.Marshal(),
	}}}))
	f.Add(mustMarshal(f, &wire.SessionRequest{Call: &wire.SessionRequest_Status{Status: &wire.SessionQuery{Id: id[:]}}}))
	f.Add(mustMarshal(f, &wire.SessionRequest{Call: &wire.SessionRequest_Extend{Extend: &wire.SessionExtend{Id: id[:], Revision: 1, Cap: 1 << 60}}}))
	f.Fuzz(func(t *testing.T, request []byte) {
		b, err := w.host.handle(t.Context(), peerOf(w.clientKey), request)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		resp := new(wire.SessionResponse)
		if err := proto.Unmarshal(b, resp); err != nil || len(b) > maxResponse {
			t.Fatalf("answer of %d bytes: %v", len(b), err)
		}
		if w.driver.starts != 0 {
			t.Fatal("something started without an authorization")
		}
	})
}

// FuzzReceipt has a server send anything for a signature.
func FuzzReceipt(f *testing.F) {
	w := newFuzzWorld(f)
	env, err := ledger.Seal(ledger.KindReceipt, ledger.Receipt{
		Network: testNetwork, Agreement: ledger.LinkTo(w.order), Server: peerOf(w.serverKey), Seq: 1,
		Readings: []ledger.Reading{{Source: "none"}},
	}, w.serverKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mustMarshal(f, &wire.SessionReceipt{Receipt: env.Marshal()}))
	f.Add([]byte{10, 1, 0})
	f.Fuzz(func(t *testing.T, request []byte) {
		b, err := w.buyer.handleReceipt(t.Context(), peerOf(w.serverKey), request)
		if err != nil {
			return
		}
		reply := new(wire.SessionReceiptReply)
		if err := proto.Unmarshal(b, reply); err != nil || len(reply.GetReceipt()) > 0 {
			t.Fatalf("signed a receipt of no session of ours: %v", err)
		}
	})
}

// newFuzzWorld is a world that a fuzz target shares between its inputs.
func newFuzzWorld(f *testing.F) *world {
	f.Helper()
	w := &world{}
	w.init(f)
	return w
}

// FuzzRecords reads damaged state files: an error, never a panic, and what is
// read can be written again.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"format":1,"record":{"state":"running","cap":1}}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decodeRecord[hostedRecord](b)
		if err != nil {
			return
		}
		r, err := openRecords[hostedRecord](t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.save(ledger.ID{1}, rec); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReceiptLog opens files of receipts that were cut or altered.
func FuzzReceiptLog(f *testing.F) {
	env, err := ledger.Seal(ledger.KindReceipt, ledger.Receipt{Network: testNetwork, Seq: 1, Readings: []ledger.Reading{{Source: "none"}}}, testKey(2))
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	log, err := openReceiptLog(dir, ledger.ID{1})
	if err != nil {
		f.Fatal(err)
	}
	r, err := openReceipt(env.Marshal())
	if err != nil {
		f.Fatal(err)
	}
	if err := log.append(r); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(log.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ledger.ID{1}.String()+".receipts"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		log, err := openReceiptLog(dir, ledger.ID{1})
		if err != nil {
			return
		}
		if _, err := log.page(0, 10); err != nil {
			t.Fatalf("opened but not readable: %v", err)
		}
	})
}

// FuzzForwardHeader reads the message that opens a forwarded connection.
func FuzzForwardHeader(f *testing.F) {
	var b bytes.Buffer
	if err := writeMessage(&b, &wire.SessionForward{Id: make([]byte, 16), Port: 22}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = readMessage(bufio.NewReader(bytes.NewReader(b)), new(wire.SessionForward))
	})
}
