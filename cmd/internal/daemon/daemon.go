// Package daemon is the process that carries a participant: it reads its
// configuration, runs the node and answers the local API until a signal.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/pflag"

	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// Options are the command line of a daemon.
type Options struct {
	// Home is the participant's directory.
	Home string
	// LogLevel and LogFormat override those of node.toml.
	LogLevel, LogFormat string
	// Lifeline is a file descriptor whose end of file ends the daemon: the
	// other end of the pipe belongs to a parent that must not be outlived.
	// Zero: none.
	Lifeline int
	// Ephemeral deletes the home directory, and the log beside it that has its
	// name and ".log", at the end when the lifeline was cut; and the directory
	// above it if that is empty then.
	Ephemeral bool
}

// Flags declares the options but for Home.
func (o *Options) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.LogLevel, "log-level", "", "debug, info, warn or error; default as in node.toml")
	fs.StringVar(&o.LogFormat, "log-format", "", "text or json; default as in node.toml")
	fs.IntVar(&o.Lifeline, "lifeline", 0, "end when this file `descriptor` does")
	fs.BoolVar(&o.Ephemeral, "ephemeral", false, "delete the home directory when the lifeline ends")
	for _, name := range []string{"lifeline", "ephemeral"} {
		_ = fs.MarkHidden(name) // it exists
	}
}

// Version returns the version that the program was built as.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// metricsTimeout bounds one scrape.
const metricsTimeout = 10 * time.Second

// Run carries the participant of opts.Home until ctx is done, which is a clean
// end, or something fails. Everything it started has ended when it returns.
func Run(ctx context.Context, opts Options) (err error) {
	ctx, life := watchLifeline(ctx, opts.Lifeline)
	defer life.close()
	if opts.Ephemeral {
		defer func() {
			if life.cut() {
				err = errors.Join(err, os.RemoveAll(opts.Home))
				_ = os.Remove(opts.Home + ".log")      // if there is one
				_ = os.Remove(filepath.Dir(opts.Home)) // by the last of several
			}
		}()
	}
	cfg, err := node.LoadConfig(opts.Home)
	if err != nil {
		return err
	}
	if opts.LogLevel != "" {
		cfg.Log.Level = opts.LogLevel
	}
	if opts.LogFormat != "" {
		cfg.Log.Format = opts.LogFormat
	}
	if cfg.Logger, err = cfg.Log.NewLogger(); err != nil {
		return err
	}
	cfg.Version = "xeno/" + Version()
	return serve(ctx, cfg)
}

// serve opens the API's socket first: it keeps a second daemon away from the
// state, and whoever calls early waits for its answer instead of failing.
func serve(ctx context.Context, cfg node.Config) (err error) {
	l, err := api.Listen(filepath.Join(cfg.Home, api.SocketName))
	if err != nil {
		return err
	}
	begin := time.Now()
	n, err := node.New(ctx, cfg)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := api.Serve(l, n, cfg.Logger)
	metrics, err := serveMetrics(cfg.MetricsListen, n.Metrics())
	if err == nil {
		notify("READY=1")
		cfg.Logger.Info("daemon is up", slog.String("home", cfg.Home), slog.Duration("took", time.Since(begin)))
		select {
		case <-ctx.Done():
		case <-n.Done():
			err = n.Err()
		}
		notify("STOPPING=1")
		cfg.Logger.Info("daemon ends")
	}
	return errors.Join(err, metrics.Close(), server.Close(), n.Close())
}

// serveMetrics serves Prometheus on a TCP address; empty: not at all.
func serveMetrics(addr string, h http.Handler) (*http.Server, error) {
	s := &http.Server{ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, IdleTimeout: metricsTimeout}
	if addr == "" || h == nil {
		return s, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return s, fmt.Errorf("metrics_listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	s.Handler = mux
	go func() { _ = s.Serve(l) }() // ends with s.Close
	return s, nil
}

// notify tells systemd of a change of state, where it asks for that
// (sd_notify(3)).
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.Dial("unixgram", name)
	if err != nil {
		return // the service manager then times out and says so
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
