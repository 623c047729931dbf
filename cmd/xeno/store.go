package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/node/api"
)

func newStore(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "store",
		Short:   "Keep files in XenoStore",
		Example: "  xeno store add job.wasm\n  xeno store get bafybei…",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(newStoreAdd(a), newStoreGet(a))
	return cmd
}

func newStoreAdd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "add PATH",
		Short:   "Store a file or directory and print its CID; - reads standard input",
		Example: "  xeno store add job.wasm\n  xeno store add linux",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			var obj api.Object
			var err error
			if args[0] == "-" {
				obj, err = c.StoreAdd(cmd.Context(), "", a.stdin)
			} else {
				obj, err = addPath(cmd.Context(), c, args[0])
			}
			if err != nil {
				return err
			}
			return a.print(obj, func(w io.Writer) { fmt.Fprintln(w, obj.CID) })
		},
	}
}

// addPath stores a file or directory. A file is sent over the socket; a
// directory is read by the daemon.
func addPath(ctx context.Context, c *api.Client, name string) (api.Object, error) {
	f, err := os.Open(name)
	if err != nil {
		return api.Object{}, usageError{err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return api.Object{}, err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return api.Object{}, usagef("%s is neither a file nor a directory; - reads standard input", name)
	}
	if !info.IsDir() {
		return c.StoreAdd(ctx, filepath.Base(name), f)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return api.Object{}, err
	}
	return c.StoreAddPath(ctx, path)
}

func newStoreGet(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "get CID",
		Short:   "Fetch a file from whoever has it, verified",
		Example: "  xeno store get bafybei… --output job.wasm",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := a.client().StoreGet(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer content.Close()
			if output == "" {
				_, err := io.Copy(a.stdout, content)
				return err
			}
			size, err := writeFile(output, content)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"cid": args[0], "file": output, "size_bytes": size}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\t%s\n", output, formatSize(uint64(size)))
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `file`; default standard output")
	return cmd
}

// writeFile writes content to a file that appears only when it is complete.
func writeFile(name string, content io.Reader) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return n, err
}
