package api

import (
	"path/filepath"
	"strings"
	"unicode"

	"github.com/xenoserver/xeno/ledger"
)

// A checker is a request that can tell what is wrong with it, before any
// backend sees it.
type checker interface {
	check() error
}

func bad(field, format string, args ...any) error {
	return Errorf(CodeBadRequest, field+": "+format, args...)
}

func (r RegisterRequest) check() error {
	if strings.TrimSpace(r.Code) == "" || len(r.Code) > maxNameBytes {
		return Errorf(CodeBadRequest, "code: not an invitation code").WithHint("ask the operator of the network's XenoCorp for one")
	}
	return checkName("name", r.Name)
}

func (r OrderRequest) check() error {
	if err := checkPositive("amount", r.Amount); err != nil {
		return err
	}
	if r.TTLSeconds < 0 || r.TTLSeconds > maxTTLSeconds {
		return bad("ttl_seconds", "must be 0 to %d", maxTTLSeconds)
	}
	if r.MaxCap < 0 || r.MaxCap > r.Amount {
		return bad("max_cap", "must be between 0 and the amount")
	}
	if len(r.Servers) > maxOrderServers {
		return bad("servers", "at most %d", maxOrderServers)
	}
	return nil
}

func (r AddPathRequest) check() error {
	if !filepath.IsAbs(r.Path) || len(r.Path) > maxPathBytes {
		return bad("path", "must be absolute and at most %d bytes", maxPathBytes)
	}
	return nil
}

// CheckAll returns an error unless the request fits a search for everything.
func (r SearchRequest) CheckAll() error {
	if r.Limit != 0 || r.Order != "" || r.Count {
		return Errorf(CodeBadRequest, "limit, order and count are not for a search for everything").WithHint("leave them out")
	}
	return r.check()
}

func (r SearchRequest) check() error {
	if len(r.Query) > maxQueryBytes || len(r.Order) > maxQueryBytes {
		return Errorf(CodeQuery, "query: more than %d bytes", maxQueryBytes)
	}
	if r.Limit < 0 || r.Limit > maxResults {
		return bad("limit", "must be 0 to %d", maxResults)
	}
	if r.Budget < 0 || r.Budget > maxBudget {
		return bad("budget", "must be 0 to %d", maxBudget)
	}
	if !(r.Error == 0 || r.Count && r.Error >= leastError && r.Error <= 1) {
		return bad("error", "must be %g to 1, and of a count", leastError)
	}
	return nil
}

func (r PlaceRequest) check() error {
	if len(r.Groups) == 0 || len(r.Groups) > maxPlaceParts {
		return Errorf(CodeBadRequest, "groups: must be 1 to %d", maxPlaceParts).WithHint("say how many machines are wanted")
	}
	if max(len(r.Near), len(r.Spread), len(r.Reach)) > maxPlaceParts {
		return bad("near, spread and reach", "at most %d rules of each", maxPlaceParts)
	}
	if r.MaxPrice < 0 || r.MaxPrice > ledger.MaxAmount {
		return bad("max_price", "must be 0 to %s", ledger.MaxAmount)
	}
	if !(r.Effort >= 0 && r.Effort <= 1) {
		return bad("effort", "must be 0 to 1")
	}
	for _, g := range r.Groups {
		if g.Count < 1 || g.Count > maxMachines {
			return bad("groups.count", "must be 1 to %d", maxMachines)
		}
		if err := checkName("groups.name", g.Name); err != nil {
			return err
		}
		if err := (SearchRequest{Query: g.Query, Order: g.Order}).check(); err != nil {
			return err
		}
	}
	for _, rule := range r.Near {
		if err := checkMillis("near.max_ms", rule.MaxMillis); err != nil {
			return err
		}
	}
	for _, rule := range r.Reach {
		if err := checkMillis("reach.max_ms", rule.MaxMillis); err != nil {
			return err
		}
	}
	return nil
}

// checkMillis bounds a round trip.
func checkMillis(field string, ms float64) error {
	if !(ms > 0 && ms <= maxRoundTripMillis) {
		return bad(field, "must be more than 0 and at most %d", maxRoundTripMillis)
	}
	return nil
}

func (r RunRequest) check() error {
	if r.Terms.Environment == "" {
		return Errorf(CodeBadRequest, "terms.environment: missing").WithHint("say wasi or linux")
	}
	if r.Cap < 0 || r.Cap > ledger.MaxAmount {
		return bad("cap", "must be 0 to %s", ledger.MaxAmount)
	}
	if r.DurationSeconds < 0 || r.DurationSeconds > maxTTLSeconds {
		return bad("duration_seconds", "must be 0 to %d", maxTTLSeconds)
	}
	if r.Terms.CPUs < 0 || r.Terms.CPUShare < 0 {
		return bad("terms", "cpus and cpu_share must not be negative")
	}
	return SearchRequest{Query: r.Query, Order: r.OrderBy}.check()
}

func (r ExtendRequest) check() error {
	if r.Seconds <= 0 || r.Seconds > maxTTLSeconds {
		return bad("seconds", "must be 1 to %d", maxTTLSeconds)
	}
	if r.Cap < 0 || r.Cap > ledger.MaxAmount {
		return bad("cap", "must be 0 to %s", ledger.MaxAmount)
	}
	return nil
}

func (r InviteRequest) check() error {
	if strings.TrimSpace(r.Subject) == "" {
		return bad("subject", "missing; name the entity that was identified")
	}
	if r.TTLSeconds < 0 || r.TTLSeconds > maxTTLSeconds {
		return bad("ttl_seconds", "must be 0 to %d", maxTTLSeconds)
	}
	for _, role := range r.Roles {
		switch role {
		case ledger.RoleParticipant, ledger.RoleClient, ledger.RoleServer, ledger.RoleOperator:
		default:
			return bad("roles", "unknown role %.20q; there are participant, client, server, operator", role)
		}
	}
	return checkName("subject", r.Subject)
}

func (r DepositRequest) check() error {
	if r.Peer.IsZero() {
		return bad("peer", "missing")
	}
	if err := checkName("note", r.Note); err != nil {
		return err
	}
	return checkPositive("amount", r.Amount)
}

func (r RevokeRequest) check() error {
	if r.Peer.IsZero() {
		return bad("peer", "missing")
	}
	return checkName("reason", r.Reason)
}

func checkPositive(field string, a ledger.Amount) error {
	if a <= 0 || a > ledger.MaxAmount {
		return bad(field, "must be more than zero and at most %s", ledger.MaxAmount)
	}
	return nil
}

// checkName bounds a label and keeps control characters out of terminals.
func checkName(field, s string) error {
	if len(s) > maxNameBytes {
		return bad(field, "more than %d bytes", maxNameBytes)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return bad(field, "control characters are not allowed")
	}
	return nil
}
