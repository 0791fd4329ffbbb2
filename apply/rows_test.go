package apply

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"tairlift/internal/command"
	"tairlift/internal/redistest"
	"tairlift/internal/redistest/cmdtest"
	"tairlift/internal/resp"
)

func TestEveryRowHasATemplate(t *testing.T) {
	var rows []string
	command.All(func(s *command.Spec) { rows = append(rows, s.Name) })
	slices.Sort(rows)
	if got := cmdtest.Rows(); !slices.Equal(got, rows) {
		t.Errorf("rows with templates: got %v, want those of the table: %v", got, rows)
	}
}

// stops are the rows whose commands end a group that has others beside it, or in any
// case, with the reason.
func stops(s *command.Spec) string {
	switch {
	case s.Class == command.Flush:
		return "flush-in-stream"
	case s.Class == command.Slots && s.Name != "SLOTSDEL":
		return "slots-moving"
	case s.Class == command.Unsupported:
		return "unsupported-command"
	}
	return ""
}

// Each row of the table that the source knows is put to use there, on keys of its
// own, and the target ends with the same values and deadlines.
func TestEveryRowEndsAsAtTheSource(t *testing.T) {
	r := newRig(t, 1)
	s, elsewhere := r.sources[0], redistest.Source(t)
	codis := s.IsCodis()
	s.Do(t, "SET", "payload", "restored")
	payload := string(s.Do(t, "DUMP", "payload").Str)
	host, port, err := net.SplitHostPort(elsewhere.Addr)
	if err != nil {
		t.Fatal(err)
	}
	r.capture()
	conn := s.Dial(t)
	do := func(args []string) error {
		_, err := conn.Do(t.Context(), args...)
		var se resp.ServerError
		if err != nil && !errors.As(err, &se) {
			t.Fatalf("%q: %v", args, err)
		}
		return err
	}
	from, to := s.VersionNumber(), r.target.VersionNumber()
	alike, newer := (from < 700) == (to < 700), rdbOf(from) > rdbOf(to)
	caps := target{major: to / 100, minor: to % 100}.caps()
	can := func(cmds [][]string) bool { // there is an equal on the target
		var old *command.TargetError
		for _, args := range cmds {
			words := [][]byte{}
			for _, a := range args {
				words = append(words, []byte(a))
			}
			if _, _, _, err := command.Lookup(words[0]).AppendRewrite(nil, nil, words, 1, caps); errors.As(err, &old) {
				return false
			}
		}
		return true
	}
	used := 0
	command.All(func(row *command.Spec) {
		switch {
		case row.Class == command.Flush:
			return // see TestEveryRowThatStopsSaysSo
		case row.Class == command.Slots && !(codis && (row.Name == "SLOTSRESTORE" || row.Name == "SLOTSRESTORE-ASYNC" || row.Name == "SLOTSMGRT-EXEC-WRAPPER")):
			return
		case newer && strings.HasPrefix(row.Name, "RESTORE"): // of a format that the target does not read
			return
		}
		h := fnv.New64()
		h.Write([]byte(row.Name))
		f := cmdtest.NewFiller(h.Sum64(), row.Name+":")
		f.Payload, f.Host, f.Port = payload, host, port
		for _, args := range f.Populate() {
			if can([][]string{args}) {
				_ = do(args) // no server knows them all
			}
		}
		known, worked := false, false
		for range 4 {
			for _, template := range cmdtest.Templates(row.Name, alike) {
				ok := true
				cmds := f.Fill(template)
				if !can(cmds) {
					continue
				}
				for _, args := range cmds {
					err := do(args)
					if strings.EqualFold(args[0], row.Name) && (err == nil || !strings.Contains(err.Error(), "unknown command")) {
						known = true
					}
					ok = ok && err == nil
				}
				worked = worked || ok
			}
		}
		if known && !worked {
			t.Errorf("%s: the source knows it, and takes none of its templates", row.Name)
		}
		if worked {
			used++
		}
	})
	if used < 75 { // a Redis 2.8 knows no more
		t.Errorf("rows put to use: got %d, want at least 75", used)
	}
	r.stopCapture()
	r.applyAll(Options{})
	r.equal(s)
	t.Logf("%d rows", used)
}

// rdbOf is the version of the RDB, and of DUMP, that a server's version writes.
func rdbOf(version int) int {
	formats := []int{300, 400, 500, 700, 702, 704} // of 7, 8, 9, 10, 11, 12
	i, found := slices.BinarySearch(formats, version)
	if !found {
		i--
	}
	return 7 + i
}

// equal compares the target's keyspace with another server's.
func (r *rig) equal(s *redistest.Server) {
	r.t.Helper()
	idle := min(s.VersionNumber(), r.target.VersionNumber()) >= 700
	want, got := cmdtest.Keyspace(r.t, s, 16, idle), cmdtest.Keyspace(r.t, r.target, 16, idle)
	if len(want) == 0 {
		r.t.Error("nothing to compare")
	}
	for _, line := range cmdtest.Differences(got, want, 2*time.Second, 20) {
		r.t.Error(line)
	}
}

// What stops a group does so wherever it stands, and names itself.
func TestEveryRowThatStopsSaysSo(t *testing.T) {
	r := bareRig(t, 1)
	command.All(func(row *command.Spec) {
		reason := stops(row)
		if reason == "" || row.Name == "SLOTSRESTORE" || row.Name == "SLOTSRESTORE-ASYNC" {
			return
		}
		t.Run(row.Name, func(t *testing.T) {
			r := r.again(t)
			f := cmdtest.NewFiller(1, "k:")
			f.Host, f.Port = "127.0.0.1", "1"
			p := r.craft(1, 1).write("INCR n")
			for _, args := range f.Fill(cmdtest.Templates(row.Name, true)[0]) {
				p.command(args...)
			}
			p.write("INCR n")
			stop := r.stopped(Options{}, reason)
			if want := fmt.Sprintf("%q", row.Name); !strings.Contains(stop.What, want) {
				t.Errorf("stop: got %q, want %s in it", stop.What, want)
			}
			r.want("before it", map[string]string{"0 GET n": "1"})
		})
	})
}
