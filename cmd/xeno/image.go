package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/hypervisor/image"
)

func newImage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image",
		Short:   "Make what environments boot",
		Example: "  xeno image build --out linux",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(newImageBuild(a))
	return cmd
}

func newImageBuild(a *app) *cobra.Command {
	var opts image.Options
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the small Linux image from a kernel, busybox and our own init",
		Example: `  xeno image build --out linux
  xeno image build --kernel /boot/vmlinuz-6.1.0-cloud-amd64 --out linux`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Out == "" {
				return usagef("say where to with --out")
			}
			m, err := image.Build(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return a.print(m, func(w io.Writer) {
				fmt.Fprintf(w, "%s: Linux %s for %s\n", opts.Out, m.Kernel, m.Arch)
			})
		},
	}
	cmd.Flags().StringVarP(&opts.Out, "out", "o", "", "`directory` to fill")
	cmd.Flags().StringVar(&opts.Kernel, "kernel", "", "kernel `file`; default the newest of /boot")
	cmd.Flags().StringVar(&opts.Modules, "modules", "", "its module `directory`; default that of the kernel's version in /lib/modules")
	cmd.Flags().StringVar(&opts.Busybox, "busybox", "", "static busybox `file`; default from PATH")
	return cmd
}
