package node

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/xenoserver/xeno/node/corp"
)

var documentedKey = regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([^|]+) \\|")

// TestConfigurationDocument compares docs/configuration.md with the keys that
// are read, and the defaults it quotes with those that are filled in.
func TestConfigurationDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "## "+ConfigFile+"\n")
	node, network, ok2 := strings.Cut(rest, "## "+NetworkFile+"\n")
	if !ok || !ok2 {
		t.Fatal("docs/configuration.md lacks the headings of the two files")
	}
	c := Config{Home: "/home", Server: &ServerConfig{}, Corp: &CorpConfig{}, Network: Network{Name: "n"}}
	c.Network.XenoCorp[0] = 1
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file, doc string
		value     any
	}{{ConfigFile, node, c}, {NetworkFile, network, c.Network}} {
		var keys []string
		quoted := make(map[string]string)
		for _, m := range documentedKey.FindAllStringSubmatch(tt.doc, -1) {
			keys = append(keys, m[1])
			if value, ok := strings.CutPrefix(m[2], "`"); ok {
				quoted[m[1]] = strings.TrimSuffix(value, "`")
			}
		}
		filled := make(map[string]string)
		tomlKeys(t, reflect.ValueOf(tt.value), "", filled)
		var want []string
		for key := range filled {
			want = append(want, key)
		}
		slices.Sort(keys)
		slices.Sort(want)
		if diff := cmp.Diff(want, keys); diff != "" {
			t.Errorf("keys of %s (-read +documented):\n%s", tt.file, diff)
		}
		for key, value := range quoted {
			got := filled[key]
			if later, ok := filledLater[key]; ok {
				got = later
			}
			if !sameValue(got, value) {
				t.Errorf("%s: the default of %s is %s, documented as %s", tt.file, key, got, value)
			}
		}
	}
}

// filledLater are defaults that are not filled in by validate but where the
// value is used.
var filledLater = map[string]string{
	"log.level": `"info"`, "log.format": `"text"`, "server.accelerator": `"auto"`,
	"corp.credential_ttl": strconv.Quote(corp.DefaultCredentialTTL.String()), "corp.claim_grace": strconv.Quote(corp.DefaultClaimGrace.String()),
}

// sameValue compares TOML values; "1m" is "60s", and "1GiB" is "1024MiB".
func sameValue(a, b string) bool {
	var da, db Duration
	var sa, sb Bytes
	x, y := []byte(strings.Trim(a, `"`)), []byte(strings.Trim(b, `"`))
	switch {
	case da.UnmarshalText(x) == nil && db.UnmarshalText(y) == nil:
		return da == db
	case sa.UnmarshalText(x) == nil && sb.UnmarshalText(y) == nil:
		return sa == sb
	}
	return a == b
}

// tomlKeys collects the dotted names of the fields of a struct that are read
// from TOML, with their values as TOML.
func tomlKeys(t *testing.T, v reflect.Value, prefix string, into map[string]string) {
	t.Helper()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("toml"), ",")
		if name == "-" {
			continue
		}
		if name == "" {
			t.Errorf("%s.%s has no toml tag", v.Type(), v.Type().Field(i).Name)
		}
		field := v.Field(i)
		if field.Kind() == reflect.Pointer {
			field = field.Elem()
		}
		if field.Kind() == reflect.Struct {
			tomlKeys(t, field, prefix+name+".", into)
			continue
		}
		b, err := toml.Marshal(map[string]any{"x": field.Interface()})
		if err != nil {
			t.Fatal(err)
		}
		into[prefix+name] = strings.ReplaceAll(strings.TrimSpace(strings.TrimPrefix(string(b), "x = ")), "'", `"`)
	}
}
