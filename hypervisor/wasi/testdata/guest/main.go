// Command guest tries out what a module can reach. It writes one line for each
// thing that it could do.
package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	fmt.Println("args", strings.Join(os.Args[1:], " "))
	fmt.Println("env", strings.Join(os.Environ(), " "))
	files()
	escapes(os.Args[1])
	clocks()
	if _, err := net.Dial("tcp", "127.0.0.1:80"); err == nil {
		fmt.Println("escape: network")
	}
	fill()
	fmt.Println("end")
}

// files checks that the private directory works as a directory does.
func files() {
	must(os.MkdirAll("/a/b", 0o755))
	must(os.WriteFile("/a/b/f", []byte("hello"), 0o644))
	must(os.Rename("/a/b/f", "/a/g"))
	data, err := os.ReadFile("/a/g")
	must(err)
	f, err := os.OpenFile("/a/g", os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	_, err = f.WriteString(" world")
	must(err)
	must(f.Close())
	data, err = os.ReadFile("a/../a/g")
	must(err)
	entries, err := os.ReadDir("/")
	must(err)
	fmt.Println("files", string(data), len(entries), entries[0].Name())
	must(os.RemoveAll("/a"))
}

// escapes tries to get at a file of the host.
func escapes(secret string) {
	up := strings.Repeat("../", 20)
	for _, path := range []string{secret, up + secret, "/" + up + secret, "/etc/passwd", up + "etc/passwd", "/proc/self/environ", "/.." + secret, "//" + secret} {
		if data, err := os.ReadFile(path); err == nil {
			fmt.Println("escape: read", path, len(data))
		}
		if err := os.WriteFile(path+".new", nil, 0o600); err == nil {
			fmt.Println("escape: wrote", path)
		}
	}
	for i, target := range []string{secret, "/", up, filepath.Dir(secret)} {
		name := fmt.Sprint("/link", i)
		if err := os.Symlink(target, name); err == nil {
			fmt.Println("escape: symbolic link to", target)
		}
		if data, err := os.ReadFile(name); err == nil {
			fmt.Println("escape: read through a link", len(data))
		}
		if err := os.Link(target, name); err == nil {
			fmt.Println("escape: link to", target)
		}
	}
}

func clocks() {
	began := time.Now()
	time.Sleep(20 * time.Millisecond)
	if d := time.Since(began); d < 20*time.Millisecond || d > 10*time.Second {
		fmt.Println("clock: slept", d)
	}
	if began.Year() < 2025 || began.Nanosecond()%100_000 != 0 {
		fmt.Println("clock:", began)
	}
}

// fill is a disk bomb.
func fill() {
	chunk := bytes.Repeat([]byte{1}, 64<<10)
	f, err := os.Create("/bomb")
	must(err)
	written := 0
	for {
		n, err := f.Write(chunk)
		written += n
		if err != nil {
			break
		}
	}
	fmt.Println("wrote", written)
	must(f.Close())
	if err := os.Mkdir("/more", 0o700); err == nil {
		fmt.Println("escape: directory on a full disk")
	}
	must(os.Remove("/bomb"))
	must(os.Mkdir("/more", 0o700))
	names := []string{}
	entries, err := os.ReadDir("/")
	must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"more"}) {
		fmt.Println("left", names)
	}
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
