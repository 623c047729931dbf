package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/store/blocks"
)

// A session fetches the blocks of one operation, from the store or from
// whoever has them. It ends the operation when it waits for blocks and none
// came for a while; a caller who takes his time is no reason.
type session struct {
	begin func() *blockservice.Session // with bitswap
	over  func() error                 // why the operation ended, nil before
	stall time.Duration

	mu      sync.Mutex // guards the following
	getter  *blockservice.Session
	waiting int
	timer   *time.Timer // runs while waiting > 0
}

// session begins an operation: its context ends with ctx, by end, or with an
// error that wraps ErrUnavailable.
func (c *content) session(ctx context.Context, ref store.Ref) (_ context.Context, s *session, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s = &session{stall: c.stall}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(c.stall, func() {
		cancel(fmt.Errorf("%w: nobody has sent %s, or a part of it, for %v: "+
			"start a participant that has it, or add the file here (xeno store add)", ErrUnavailable, ref, c.stall))
	})
	s.timer.Stop()
	s.begin = func() *blockservice.Session {
		return blockservice.NewSession(ctx, blockservice.New(c.blocks.Cache(), c.exchange))
	}
	s.over = func() error { return context.Cause(ctx) }
	s.getter = s.begin()
	return ctx, s, func() {
		s.timer.Stop()
		cancel(context.Canceled)
	}
}

// GetBlock implements blocks.Source. A want that was lost with the process it
// was sent to is sent again soon: bitswap takes it for sent, on a connection
// whose other end was killed, and would repeat it after 30 s only.
func (s *session) GetBlock(ctx context.Context, c cid.Cid) (block.Block, error) {
	s.wait(1)
	defer s.wait(-1)
	getter := s.current(nil)
	for patience := firstPatience; ; patience *= 2 {
		try, cancel := context.WithTimeout(ctx, patience)
		b, err := getter.GetBlock(try, c)
		late := try.Err() != nil
		cancel()
		if err == nil {
			return b, nil
		}
		if why := s.over(); why != nil {
			// Bitswap's session may see it before the request does, and then
			// has an error of its own.
			return nil, why
		}
		if !late || ctx.Err() != nil {
			return nil, err
		}
		getter = s.current(getter)
	}
}

// current returns the session with bitswap; a new one where the known one was
// of no use.
func (s *session) current(useless *blockservice.Session) *blockservice.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.getter == useless {
		s.getter = s.begin()
	}
	return s.getter
}

// wait counts requests under way. With the first, and when one has ended, the
// others have the whole time again.
func (s *session) wait(delta int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += delta
	switch {
	case s.waiting == 0:
		s.timer.Stop()
	case delta < 0 || s.waiting == 1:
		s.timer.Reset(s.stall)
	}
}

// Get writes the file or directory ref to dest, which must not exist, from
// here or from whoever has it. It appears whole or not at all. progress, which
// may be nil, is called with the bytes written so far. Errors wrap
// ErrUnavailable, or are those of blocks.Extract.
func (c *content) Get(ctx context.Context, ref store.Ref, dest string, progress func(done int64)) (blocks.Extracted, error) {
	ctx, src, end := c.session(ctx, ref)
	defer end()
	x, err := blocks.Extract(ctx, src, ref, dest, blocks.ExtractOptions{MaxBytes: maxContent, Progress: progress})
	if err != nil {
		return x, fmt.Errorf("storage: %w", err)
	}
	return x, nil
}

// Open returns a reader of the file ref. Its errors are those of Get. Close
// it to end the work behind it.
func (c *content) Open(ctx context.Context, ref store.Ref) io.ReadCloser {
	ctx, src, end := c.session(ctx, ref)
	return &opened{ReadCloser: blocks.Reader(ctx, src, ref, maxContent), end: end}
}

type opened struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (o *opened) Close() error {
	o.end()
	return o.ReadCloser.Close()
}

// Fetch returns the path of a regular, read-only, durable file with the
// content of ref, fetched from whoever has it unless it is here. The file
// stays for at least ten minutes after the call, and until room is needed;
// Fetch it again before every use. Calls for one ref share the work. Errors
// wrap ErrUnavailable, blocks.ErrNotFile, blocks.ErrTooLarge or blocks.ErrFull.
func (c *content) Fetch(ctx context.Context, ref store.Ref, progress func(done int64)) (string, error) {
	return c.materialise(ctx, ref, blocks.ExtractOptions{FileOnly: true, Progress: progress})
}

// FetchDir is Fetch for a directory of read-only files. Errors wrap
// blocks.ErrNotDir instead of blocks.ErrNotFile.
func (c *content) FetchDir(ctx context.Context, ref store.Ref, progress func(done int64)) (string, error) {
	return c.materialise(ctx, ref, blocks.ExtractOptions{DirOnly: true, MaxEntries: maxImageEntries, Progress: progress})
}

func (c *content) materialise(ctx context.Context, ref store.Ref, opt blocks.ExtractOptions) (string, error) {
	opt.MaxBytes, opt.Mode, opt.Sync = min(maxImage, c.images.max), 0o444, true
	path, fresh, err := c.images.get(ctx, ref, opt.DirOnly, func(ctx context.Context, dest string) (int64, error) {
		ctx, src, end := c.session(ctx, ref)
		defer end()
		x, err := blocks.Extract(ctx, src, ref, dest, opt)
		return x.Size, err
	})
	if err != nil {
		return "", fmt.Errorf("storage: fetch %s: %w", ref, err)
	}
	if fresh {
		c.provider.announce(ref)
	}
	return path, nil
}

// repair fetches again what is missing of pinned content: blocks that were
// damaged or lost while the daemon was down.
func (c *content) repair(ctx context.Context) {
	for _, p := range c.blocks.Incomplete() {
		if err := c.complete(ctx, p); err != nil {
			if ctx.Err() != nil {
				return
			}
			c.log.LogAttrs(ctx, slog.LevelError, "pinned content is damaged and could not be repaired: add it again",
				slog.String("ref", p.Ref.String()), slog.String("name", p.Name), slog.Any("error", err))
			continue
		}
		c.log.LogAttrs(ctx, slog.LevelInfo, "repaired pinned content", slog.String("ref", p.Ref.String()))
	}
}

// complete fetches every block of a pin and pins it again, in rounds: what is
// fetched may link to more.
func (c *content) complete(ctx context.Context, p blocks.Pin) error {
	ctx, src, end := c.session(ctx, p.Ref)
	defer end()
	if err := c.blocks.Complete(ctx, src, p); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}
