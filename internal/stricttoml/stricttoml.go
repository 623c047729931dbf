// Package stricttoml reads configuration files of people: unknown keys are
// refused, and every error says where what is wrong stands.
package stricttoml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Decode fills into, a pointer to a struct, from a TOML document. Errors name
// line and column, or every unknown key with its line.
func Decode(text []byte, into any) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		keys := make([]string, 0, len(unknown.Errors))
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			keys = append(keys, fmt.Sprintf("line %d: unknown key %s", line, strings.Join(e.Key(), ".")))
		}
		return errors.New(strings.Join(keys, "; "))
	}
	if where, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := where.Position()
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return err
}
