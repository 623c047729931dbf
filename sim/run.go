package sim

import (
	"context"
	"errors"

	"github.com/xenoserver/xeno/sim/report"
)

// Run carries out a scenario, every seed in turn, and returns what came of it.
// progress is called now and then; it may be nil. When ctx ends, the report of
// what there is comes back marked as partial, beside the error of ctx.
func Run(_ context.Context, _ *Scenario, _ func(Progress)) (*report.Report, error) {
	return nil, errors.New("sim: not built yet")
}
