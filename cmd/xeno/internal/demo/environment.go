package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image"
	primes "github.com/xenoserver/xeno/hypervisor/wasi/demo"
	"github.com/xenoserver/xeno/node/api"
)

// linuxJob is what is run in the guest.
const linuxJob = "uname -a"

// choose settles what to lease, from what the servers say they can run, and
// puts that into XenoStore: the servers fetch it from the client.
func (r *run) choose(ctx context.Context) (string, error) {
	drivers, lack, err := r.canLinux(ctx)
	if err != nil {
		return "", err
	}
	var m image.Manifest
	dir := filepath.Join(r.client.cfg.Home, "linux")
	if lack == "" && r.opts.Env != EnvWASI {
		m, err = image.Build(ctx, image.Options{Out: dir})
		if errors.Is(err, hypervisor.ErrNotSupported) {
			lack = err.Error()
		} else if err != nil {
			return "", err
		}
	}
	e := &r.result.Environment
	switch {
	case r.opts.Env == EnvWASI:
		*e = Environment{Kind: EnvWASI, Why: "asked for"}
	case lack == "" && r.opts.Env == EnvLinux:
		*e = Environment{Kind: EnvLinux, Why: "asked for; this machine runs it by " + drivers}
	case lack == "":
		*e = Environment{Kind: EnvLinux, Why: "this machine can run virtual machines, by " + drivers}
	case r.opts.Env == EnvLinux:
		return "", fmt.Errorf("linux: %w: %s", hypervisor.ErrNotSupported, lack)
	default:
		*e = Environment{Kind: EnvWASI, Why: "no Linux here: " + lack}
	}
	if e.Kind == EnvLinux {
		obj, err := r.client.api.StoreAddPath(ctx, dir)
		r.terms = api.Terms{Environment: EnvLinux, Image: obj.CID}
		return fmt.Sprintf("%s: %s\nan image with Linux %s is in XenoStore as %s", e.Kind, e.Why, m.Kernel, obj.CID), err
	}
	obj, err := r.client.api.StoreAdd(ctx, "primes.wasm", bytes.NewReader(primes.Module()))
	r.terms = api.Terms{Environment: EnvWASI, Image: obj.CID, Args: []string{primes.DefaultArg}}
	return fmt.Sprintf("%s: %s\na module that counts primes is in XenoStore as %s", e.Kind, e.Why, obj.CID), err
}

// canLinux asks every server whether it offers Linux; lack says why not.
func (r *run) canLinux(ctx context.Context) (drivers, lack string, err error) {
	for _, m := range r.servers() {
		s, err := m.api.Status(ctx)
		if err != nil {
			return "", "", err
		}
		if s.Server == nil {
			return "", "", fmt.Errorf("%s is no XenoServer", m.name)
		}
		if !slices.Contains(s.Server.Environments, EnvLinux) {
			return "", cmp.Or(s.Server.Unsupported[EnvLinux], "the servers do not offer it"), nil
		}
		drivers = strings.Join(slices.DeleteFunc(s.Server.Drivers, func(d string) bool { return d == EnvWASI }), ", ")
	}
	return drivers, "", nil
}
