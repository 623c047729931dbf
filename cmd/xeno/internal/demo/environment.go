package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/node/api"
)

// linuxJob is what is run in the guest.
const linuxJob = "uname -a"

// choose settles what to lease, from what the servers say they can run.
func (r *run) choose(ctx context.Context) (string, error) {
	linux, driver, why := true, "", ""
	for _, m := range r.servers() {
		s, err := m.api.Status(ctx)
		if err != nil {
			return "", err
		}
		if s.Server == nil {
			return "", fmt.Errorf("%s is no XenoServer", m.name)
		}
		if !offers(s.Server, EnvLinux) {
			linux, why = false, s.Server.Unsupported[EnvLinux]
			break
		}
		driver = strings.Join(s.Server.Drivers, ", ")
	}
	e := &r.result.Environment
	switch {
	case r.opts.Env == EnvWASI:
		e.Kind, e.Why = EnvWASI, "asked for"
	case linux && r.opts.Env == EnvLinux:
		e.Kind, e.Why = EnvLinux, "asked for, run by "+driver
	case linux:
		e.Kind, e.Why = EnvLinux, "this machine can run virtual machines, by "+driver
	case r.opts.Env == EnvLinux:
		return "", fmt.Errorf("linux: %w: %s", hypervisor.ErrNotSupported, orElse(why, "the servers do not offer it"))
	default:
		e.Kind, e.Why = EnvWASI, "Linux is not possible here: "+orElse(why, "the servers do not offer it")
	}
	r.terms = api.Terms{Environment: e.Kind}
	note := e.Kind + ", " + e.Why
	if e.Kind == EnvLinux {
		return note, nil
	}
	obj, err := r.client.api.StoreAdd(ctx, jobName, job())
	if err != nil {
		return "", errors.Join(errors.New("store the module"), err)
	}
	r.terms.Image, r.terms.Args = obj.CID, jobArgs()
	return fmt.Sprintf("%s\n%s is in XenoStore as %s", note, jobName, obj.CID), nil
}

func offers(s *api.ServerStatus, env string) bool {
	for _, e := range s.Environments {
		if e == env {
			return true
		}
	}
	return false
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
