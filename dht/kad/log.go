package kad

import (
	"log/slog"

	"github.com/xenoserver/xeno/dht"
)

// The attributes of this package's log records.
func logPeer(id dht.PeerID) slog.Attr    { return slog.String("peer", id.String()) }
func logErr(err error) slog.Attr         { return slog.String("error", err.Error()) }
func logReason(why string) slog.Attr     { return slog.String("reason", why) }
func logProtocol(proto string) slog.Attr { return slog.String("protocol", proto) }
