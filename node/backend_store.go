package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/store"
)

// StoreAdd implements api.Storage.
func (n *Node) StoreAdd(ctx context.Context, name string, r io.Reader) (api.Object, error) {
	added, err := n.storage.Add(ctx, name, r)
	if err != nil {
		return api.Object{}, apiError(err)
	}
	return api.Object{CID: added.Ref.String(), Name: name, SizeBytes: uint64(added.Size)}, nil //nolint:gosec // not negative
}

// StoreAddPath implements api.Storage.
func (n *Node) StoreAddPath(ctx context.Context, path string) (api.Object, error) {
	added, err := n.storage.AddPath(ctx, path)
	if errors.Is(err, fs.ErrPermission) {
		return api.Object{}, api.Errorf(api.CodeForbidden, "%v", err).WithHint("the daemon reads directories itself; let its user read this one")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return api.Object{}, api.Errorf(api.CodeNotFound, "%v", err)
	}
	if err != nil {
		return api.Object{}, apiError(err)
	}
	return api.Object{CID: added.Ref.String(), Name: filepath.Base(path), SizeBytes: uint64(added.Size)}, nil //nolint:gosec // not negative
}

// StoreGet implements api.Storage.
func (n *Node) StoreGet(ctx context.Context, cid string) (io.ReadCloser, error) {
	ref, err := store.ParseRef(cid)
	if err != nil {
		return nil, api.Errorf(api.CodeBadRequest, "%v", err)
	}
	r := n.storage.Open(ctx, ref)
	if _, err := r.Read(nil); err != nil && !errors.Is(err, io.EOF) { // say now that nobody has it, not in the middle
		return nil, apiError(errors.Join(err, r.Close()))
	}
	return r, nil
}
