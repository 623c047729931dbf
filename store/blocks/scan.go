package blocks

import (
	"cmp"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/boxo/datastore/dshelp"
	ds "github.com/ipfs/go-datastore"
)

// found is a block file.
type found struct {
	key      string
	size     int64
	modified time.Time
}

// scan lists the block files below dir, oldest first. Other files are not
// its business.
func scan(dir string) ([]found, error) {
	var all []found
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		name, ok := strings.CutSuffix(d.Name(), ".data")
		if !ok || !d.Type().IsRegular() {
			return nil
		}
		mh, err := dshelp.DsKeyToMultihash(ds.NewKey(name))
		if err != nil {
			return nil //nolint:nilerr // not a block's name: not ours
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all = append(all, found{string(mh), info.Size(), info.ModTime()})
		return nil
	})
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(a.modified.Compare(b.modified), strings.Compare(a.key, b.key))
	})
	return all, err
}
