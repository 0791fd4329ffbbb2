package capture

import (
	"context"
	"log/slog"
	"time"

	"tairlift/checkpoint"
	"tairlift/internal/pace"
	"tairlift/internal/repl"
	"tairlift/internal/resp"
	"tairlift/spool"
)

// Options says what a Session captures and where to. SpoolDir, Job, Group,
// Addr and Store are needed; for the rest zero is a good value.
type Options struct {
	SpoolDir string       // DIR/spool
	Job      spool.JobID  // of the segments written
	Group    repl.GroupID // which group this is
	Addr     string       // host:port of the group's server to read from
	Secret   resp.Secret  // empty: none is sent
	Store    Store        // where the durable position is recorded; shared by all sessions

	// Published is the durable position that an earlier run has published, zero
	// for none. It vouches for the spool like the record in Store, and alone
	// where that is lost or behind.
	Published spool.Durable

	// NewEpoch begins a run with a full sync: the newest epoch is given up even
	// if it could go on. Once the new one has begun, links are resumed as ever; a
	// run that ends before that leaves the old one to be resumed.
	NewEpoch bool

	Log    *slog.Logger        // nil: silent
	Writer spool.WriterOptions // its Log is replaced by ours when nil

	// FullSync bounds how many sessions load an RDB at a time. nil: no bound.
	FullSync FullSyncGate

	// Room decides whether the spool may grow. nil: always, until the disk is
	// full.
	Room Room

	// Pace is the budget at which the RDB is read; it is shared by all sessions.
	// The stream is never held back. nil: no limit.
	Pace *pace.Pacer

	// BackoffMin and BackoffMax bound the pause before the next connection,
	// which doubles from one failure to the next. 0: 100 ms and 5 s.
	BackoffMin, BackoffMax time.Duration

	// FirstContact is how long a source that was never reached under this
	// folder is tried before Run gives up. 0: 2 s.
	FirstContact time.Duration

	// MaxWait bounds how long Run tries a source that was reached before but
	// gives no stream, and how long it waits for room. The queue for a full sync
	// does not count. 0: for ever.
	MaxWait time.Duration

	// Silence is how long a source may send nothing, not even a newline or a
	// PING, before its connection is given up. 0: 60 s.
	Silence time.Duration

	// AckEvery is the longest pause between two ACKs. 0: 1 s.
	AckEvery time.Duration

	// RecordEvery is the shortest pause between two records in Store while
	// bytes arrive. 0: 500 ms.
	RecordEvery time.Duration

	// SampleEvery is the pace of the offset clock, to which apply can tell how late a
	// command is. 0: 200 ms.
	SampleEvery time.Duration

	// SyncGap is the shortest time between the starts of two fsyncs of the
	// stream: fewer fsyncs and larger frames for later bytes. 0: none.
	SyncGap time.Duration

	// Buffer is how many bytes may wait for the disk in memory. 0: 256 KiB.
	Buffer int
}

// Store keeps the record of each group; checkpoint.Capture is one.
type Store interface {
	// Group returns the group's record; ok is false when there is none.
	Group(g repl.GroupID) (rec checkpoint.CaptureRecord, ok bool, err error)
	// PutGroup replaces it. It must not return before the record is on disk,
	// because the source is told by an ACK next. It is called from several
	// sessions at once.
	PutGroup(g repl.GroupID, rec checkpoint.CaptureRecord) error
}

// FullSyncGate is the queue for full syncs.
type FullSyncGate interface {
	// Acquire waits for its turn to load a full sync from host. It returns
	// ctx's error when ctx ends first; otherwise release must be called once.
	Acquire(ctx context.Context, host string) (release func(), err error)
}

const (
	rdbSyncGap   = 250 * time.Millisecond // between fsyncs of the RDB: nobody reads it before its end
	rdbSyncBytes = 32 << 20               // of RDB appended at most before the next Sync
	syncBytes    = 2 << 20                // appended at most before the next Sync
	clockTimeout = 5 * time.Second        // for one sample, its connection included
	firstSample  = 2 * time.Second        // how long the stream waits for the link's first sample
	gateTry      = 100 * time.Millisecond // before a link is dropped to queue for a full sync
	earlyPause   = 20 * time.Millisecond  // between the first ACKs behind a diskless RDB
	earlyAcks    = 500                    // how many of them
	maxPending   = 3000                   // clock samples kept while nothing can be appended
	maxSegments  = 256                    // sealed segments named in the record
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.BackoffMin, 100*time.Millisecond)
	set(&o.BackoffMax, 5*time.Second)
	o.BackoffMax = max(o.BackoffMax, o.BackoffMin)
	set(&o.FirstContact, 2*time.Second)
	set(&o.Silence, 60*time.Second)
	set(&o.AckEvery, time.Second)
	set(&o.RecordEvery, 500*time.Millisecond)
	set(&o.SampleEvery, 200*time.Millisecond)
	if o.Buffer <= 0 {
		o.Buffer = 256 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("group", o.Group.String())
	if o.Pace == nil {
		o.Pace = pace.New(pace.Limits{}, 0)
	}
	if o.Writer.Log == nil {
		o.Writer.Log = o.Log
	}
	return o
}
