package stricttoml_test

import (
	"testing"

	"github.com/xenoserver/xeno/internal/stricttoml"
)

func TestDecode(t *testing.T) {
	type table struct {
		Name  string `toml:"name"`
		Count int    `toml:"count"`
	}
	for name, c := range map[string]struct{ text, want string }{
		"good":    {"name = 'a'\ncount = 3", ""},
		"empty":   {"", ""},
		"unknown": {"nam = 'a'\n\ncoun = 3", "line 1: unknown key nam; line 3: unknown key coun"},
		"type":    {"name = 'a'\ncount = 'b'", "line 2, column 9: toml: cannot store TOML string into a Go int"},
		"syntax":  {"name = ", "line 1, column 8: toml: expected value, not eof"},
	} {
		t.Run(name, func(t *testing.T) {
			var got table
			text := ""
			if err := stricttoml.Decode([]byte(c.text), &got); err != nil {
				text = err.Error()
			}
			if text != c.want {
				t.Errorf("error %q, want %q", text, c.want)
			}
		})
	}
}
