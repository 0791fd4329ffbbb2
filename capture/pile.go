package capture

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"tairlift/internal/pace"
	"tairlift/internal/resp"
)

// pacedReader reads no faster than its pace lets it. It waits before a read, so that
// what has come is passed on at once.
type pacedReader struct {
	ctx  context.Context
	from io.Reader
	pace *pace.Share
	owed int // bytes of the last read
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if err := r.pace.Wait(r.ctx, 0, int64(r.owed)); err != nil {
		return 0, err
	}
	_, most := r.pace.Most(0, len(p))
	n, err := r.from.Read(p[:most])
	r.owed = n
	return n, err
}

// A source keeps the stream of its writes for us until we have read its RDB. Read
// slowly, that may become more than it lets a replica have: then it cuts the link, and
// all was for nothing.

// pile is what a source gathers for us during a full sync.
type pile struct {
	gathered int64         // bytes so far
	after    time.Duration // since the full sync began
	left     time.Duration // until the RDB is read
}

// perSecond is how fast it grows.
func (p pile) perSecond() float64 { return float64(p.gathered) / p.after.Seconds() }

// most is what it comes to.
func (p pile) most() int64 { return p.gathered + int64(p.perSecond()*p.left.Seconds()) }

// bufferLimit is a source's client-output-buffer-limit for replicas.
type bufferLimit struct {
	hard, soft int64 // bytes; 0 is none
	span       time.Duration
}

// parseBufferLimit reads "normal 0 0 0 slave 268435456 67108864 60 pubsub ...".
func parseBufferLimit(text string) (bufferLimit, error) {
	f := strings.Fields(text)
	for i := 0; i+3 < len(f); i += 4 {
		if f[i] != "slave" && f[i] != "replica" {
			continue
		}
		var n [3]int64
		for j := range n {
			var err error
			if n[j], err = strconv.ParseInt(f[i+1+j], 10, 64); err != nil || n[j] < 0 {
				return bufferLimit{}, fmt.Errorf("client-output-buffer-limit %q: %q is no number", text, f[i+1+j])
			}
		}
		return bufferLimit{n[0], n[1], time.Duration(min(n[2], 1e9)) * time.Second}, nil
	}
	return bufferLimit{}, fmt.Errorf("client-output-buffer-limit %q has no part for replicas", text)
}

// cuts tells whether a source with this limit would cut the link, and at how many
// bytes.
func (l bufferLimit) cuts(p pile) (at int64, yes bool) {
	if l.hard > 0 && p.most() > l.hard {
		return l.hard, true
	}
	if l.soft == 0 || p.most() <= l.soft {
		return 0, false
	}
	above := p.left
	if p.gathered < l.soft {
		above -= time.Duration(float64(l.soft-p.gathered) / p.perSecond() * float64(time.Second))
	}
	return l.soft, above >= l.span
}

const (
	pileEvery = time.Second
	// pileSettles is how long a full sync goes on before its pace is one.
	pileSettles = 2 * time.Second
)

// watchPile says so when the pace at which the RDB is read may cost the full sync.
func (l *live) watchPile(ctx context.Context) {
	var (
		limit bufferLimit
		asked bool
	)
	s, begun := l.r.s, time.Now()
	var first struct { // bytes of the RDB
		at    time.Time
		bytes int64
	}
	tick := time.NewTicker(pileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		st, now := s.Status(), time.Now()
		perSecond := s.o.Pace.Limits().Bytes
		if done := st.Durable.RDBBytes; done > 0 && first.at.IsZero() {
			first.at, first.bytes = now, done
		} else if d := now.Sub(first.at); done > 0 && d >= pileSettles { // others may have their share
			perSecond = min(perSecond, int64(float64(done-first.bytes)/d.Seconds()))
		}
		if perSecond <= 0 {
			s.tellPile("")
			continue
		}
		if st.SourceOffset < 0 || st.SourceSampledAt.Sub(begun) < pileSettles {
			continue
		}
		if !asked {
			asked = true
			var err error
			if limit, err = l.askBufferLimit(ctx); err != nil {
				s.o.Log.Debug("source's client-output-buffer-limit is not known", "err", err)
				return
			}
		}
		p := pile{gathered: int64(st.SourceOffset - l.link.Start.Position.Offset), after: st.SourceSampledAt.Sub(begun)}
		p.left = p.after // of an RDB whose size is not known: as long again
		if st.RDBTotal >= 0 {
			p.left = time.Duration(float64(st.RDBTotal-st.Durable.RDBBytes) / float64(perSecond) * float64(time.Second))
		}
		if at, cuts := limit.cuts(p); cuts {
			s.tellPile(pileText(p, at, perSecond))
		} else {
			s.tellPile("")
		}
	}
}

// tellPile shows what is wrong with the pace of a full sync, or that nothing is.
func (s *Session) tellPile(what string) {
	if st := s.Status(); st.State != FullSync || what == "" && st.Reason != ReasonPile {
		return
	}
	if what == "" {
		s.setState(FullSync, "", "")
		return
	}
	s.setState(FullSync, ReasonPile, what)
}

func pileText(p pile, at, perSecond int64) string {
	return fmt.Sprintf("at %s/s the rest of the full sync takes %s; the source, written to at %s/s, would have gathered %s for us by then, and cuts the link at %s (client-output-buffer-limit)",
		size(perSecond), p.left.Round(time.Second), size(int64(p.perSecond())), size(p.most()), size(at))
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// askBufferLimit reads the source's configuration, on a connection of its own.
func (l *live) askBufferLimit(ctx context.Context) (bufferLimit, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	c, err := resp.Dial(ctx, l.r.s.o.Addr, l.r.s.o.Secret)
	if err != nil {
		return bufferLimit{}, err
	}
	defer c.Close()
	r, err := c.Do(ctx, "CONFIG", "GET", "client-output-buffer-limit")
	if err != nil {
		return bufferLimit{}, err
	}
	if len(r.Elems) != 2 {
		return bufferLimit{}, fmt.Errorf("CONFIG GET client-output-buffer-limit was answered with %d values", len(r.Elems))
	}
	return parseBufferLimit(string(r.Elems[1].Str))
}
