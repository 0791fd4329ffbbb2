package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tairlift/internal/fsx"
	"tairlift/internal/repl"
	"tairlift/internal/selection"
	"tairlift/spool"
)

const (
	jobFile    = "job.json"
	jobVersion = 1
)

// record is DIR/job.json.
type record struct {
	Version int         `json:"version"`
	Job     spool.JobID `json:"job"`
	Created time.Time   `json:"created"`
	Groups  []Group     `json:"groups"`
}

// folder is a job's DIR as one call found it, with what the call adds in
// memory until save.
type folder struct {
	dir   string
	state string // where the side of apply lies; empty: in dir
	rec   record
	fresh bool // there is no job.json yet
	exist bool // DIR is there, and is this program's
}

func (f *folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}
func (f *folder) spoolDir() string  { return f.path("spool") }
func (f *folder) captureDB() string { return f.path("capture", "capture.db") }
func (f *folder) applyDir(target string) string {
	return f.statePath("apply", targetID(target))
}

// targetID is the name of a target's folder.
func targetID(addr string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`:[]/\`, r) {
			return '_'
		}
		return r
	}, addr)
}

// parts are the names that may lie in a DIR of ours. lost+found is there when
// DIR is a file system of its own.
var parts = []string{jobFile, jobFile + ".tmp", "spool", "status", "capture", "apply", "lost+found"}

// openFolder reads DIR. It makes nothing: a DIR that does not exist, or is
// empty, is a fresh one. A DIR that is somebody else's is refused. A spool
// that came without its job.json tells job and groups by itself.
func openFolder(dir string) (*folder, error) {
	f := &folder{dir: dir, fresh: true}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return nil, &Error{Code: Refused, What: fmt.Sprintf("open --dir: %v", err), Hint: "give a folder that this user may read and write, or one that does not exist yet", Err: err}
	}
	var ours bool
	var foreign string
	for _, e := range entries {
		switch {
		case slices.Contains(parts, e.Name()):
			ours = ours || e.Name() != "lost+found"
		case foreign == "" && !strings.HasPrefix(e.Name(), "."): // such are the temporary files of a copy
			foreign = e.Name()
		}
	}
	raw, err := readWhole(f.path(jobFile))
	switch {
	case err == nil:
		if err := f.read(raw); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, explain(fmt.Errorf("read job file: %w", err))
	case foreign == stateFile:
		return nil, refused("give --dir the folder that holds the spool, and --state this one", "folder %s is what --state names, not a job's", dir)
	case foreign != "":
		return nil, refused("give an empty folder, or the one of an earlier run",
			"folder %s is not empty and not a job's: it holds %s and no %s", dir, foreign, jobFile)
	default:
		if err := f.adopt(); err != nil {
			return nil, err
		}
	}
	f.exist = ours
	return f, f.checkSpool()
}

// readWhole reads a small JSON file. One that is cut short is looked at again
// for a while: a copy under way may be writing it in place.
func readWhole(path string) ([]byte, error) {
	for tries := 0; ; tries++ {
		raw, err := readSmall(path)
		if err != nil || tries == 25 {
			return raw, err
		}
		var v json.RawMessage
		switch err := json.NewDecoder(bytes.NewReader(raw)).Decode(&v); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			time.Sleep(20 * time.Millisecond)
		default:
			return raw, nil
		}
	}
}

func (f *folder) read(raw []byte) error {
	path := f.path(jobFile)
	const hint = "restore the file from a copy of this folder; without it, job and groups are taken from the spool"
	if err := json.Unmarshal(raw, &f.rec); err != nil {
		return refused(hint, "%s is not a job file: %v", path, err)
	}
	if f.rec.Version != jobVersion {
		return refused("use the tairlift that wrote it, or a newer one",
			"%s has version %d, this tairlift reads version %d", path, f.rec.Version, jobVersion)
	}
	if f.rec.Job.IsZero() {
		return refused(hint, "%s names no job", path)
	}
	sortGroups(f.rec.Groups)
	for i, g := range f.rec.Groups {
		switch {
		case g.ID < 1 || g.ID > repl.MaxGroupID:
			return refused(hint, "%s names group %d, expected 1 to %d", path, uint32(g.ID), repl.MaxGroupID)
		case i > 0 && f.rec.Groups[i-1].ID == g.ID:
			return refused(hint, "%s names group %s twice", path, g.ID)
		case g.Addr != "" && checkAddr(g.Addr) != nil:
			return refused(hint, "%s: address of group %s: %v", path, g.ID, checkAddr(g.Addr))
		}
	}
	f.fresh = false
	return nil
}

// adopt takes job and groups from a spool without a job file.
func (f *folder) adopt() error {
	ids, err := spool.Groups(f.spoolDir())
	if errors.Is(err, spool.ErrNoSpool) {
		return nil
	}
	if err != nil {
		return explain(err)
	}
	for _, id := range ids {
		g, err := spool.OpenGroup(f.spoolDir(), f.rec.Job, id)
		if errors.Is(err, spool.ErrNoSpool) {
			continue
		}
		if err != nil {
			return f.spoolError(err)
		}
		f.rec.Job = g.Job()
		f.rec.Groups = append(f.rec.Groups, Group{ID: id})
	}
	return nil
}

// checkSpool refuses segments of another job.
func (f *folder) checkSpool() error {
	if f.fresh {
		return nil // adopt has looked
	}
	ids, err := spool.Groups(f.spoolDir())
	if errors.Is(err, spool.ErrNoSpool) {
		return nil
	}
	if err != nil {
		return explain(err)
	}
	for _, id := range ids {
		_, err := spool.OpenGroup(f.spoolDir(), f.rec.Job, id)
		var identity *spool.IdentityError
		var version *spool.VersionError
		if errors.As(err, &identity) || errors.As(err, &version) {
			return f.spoolError(err)
		}
		// Anything else is for who reads that group to say.
	}
	return nil
}

func (f *folder) spoolError(err error) error {
	var identity *spool.IdentityError
	if errors.As(err, &identity) && identity.Field == "job" {
		return &Error{
			Code: Refused, Err: err,
			What: fmt.Sprintf("folder %s mixes two jobs: segment %s is of job %s, not %s", f.dir, identity.Path, identity.Found, identity.Expected),
			Hint: "give each job a folder of its own; a copied spool needs the job.json that came with it",
		}
	}
	return explain(err)
}

// merge adds the groups of a call to those that DIR knows. What contradicts
// them is refused; an address may change.
func (f *folder) merge(groups []Group, log *slog.Logger) error {
	merged := slices.Clone(f.rec.Groups)
	for _, g := range groups {
		for _, known := range slices.Concat(f.rec.Groups, groups) {
			if known.Addr == g.Addr && known.ID != g.ID {
				return refused("a group keeps its number for the whole job: correct --group, or use a fresh --dir",
					"address %s is given as group %s, but it is that of group %s", g.Addr, g.ID, known.ID)
			}
		}
		i := slices.IndexFunc(merged, func(m Group) bool { return m.ID == g.ID })
		switch {
		case i < 0:
			merged = append(merged, g)
		case merged[i].Addr != g.Addr:
			if was := merged[i].Addr; was != "" {
				log.Info("group has a new address", "group", g.ID.String(), "was", was, "addr", g.Addr)
			}
			merged[i].Addr = g.Addr
		}
	}
	sortGroups(merged)
	f.rec.Groups = merged
	return nil
}

// save makes DIR if need be and writes job.json when it differs. Another
// process may have done so in the meantime: then the two are joined.
func (f *folder) save(groups []Group, log *slog.Logger) error {
	if f.state != "" {
		return f.saveState(log)
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return explain(fmt.Errorf("make --dir: %w", err))
	}
	unlock, err := lockDir(f.dir)
	if err != nil {
		return explain(fmt.Errorf("lock --dir: %w", err))
	}
	defer unlock()
	now, err := openFolder(f.dir)
	if err != nil {
		return err
	}
	before, _ := json.Marshal(now.rec)
	if err := now.merge(groups, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if now.rec.Job.IsZero() {
		now.rec.Job = spool.NewJobID()
	}
	now.rec.Version = jobVersion
	if now.rec.Created.IsZero() {
		now.rec.Created = time.Now().UTC().Truncate(time.Second)
	}
	if after, _ := json.Marshal(now.rec); now.fresh || !bytes.Equal(before, after) {
		if err := writeJSON(f.path(jobFile), now.rec); err != nil {
			return explain(fmt.Errorf("write job file: %w", err))
		}
	}
	if now.fresh {
		log.Info("job folder made", "dir", f.dir, "job", now.rec.Job.String(), "groups", idList(now.rec.Groups))
	}
	f.rec, f.fresh, f.exist = now.rec, false, true
	return nil
}

// targetFile is DIR/apply/<target>/target.json.
type targetFile struct {
	Addr string `json:"addr"`
	// Selection is what of the sources is applied there; left out: everything.
	Selection selection.Spec `json:"selection,omitzero"`
}

func (f *folder) targetFile(addr string) string {
	return filepath.Join(f.applyDir(addr), "target.json")
}

// readTarget reads a target file; nil when there is none.
func (f *folder) readTarget(path string) (*targetFile, error) {
	raw, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	var t targetFile
	if err := json.Unmarshal(raw, &t); err != nil || checkAddr(t.Addr) != nil {
		return nil, refused("remove the file and give --target, with the flags of the selection if it had one", "%s is not a target file", path)
	}
	return &t, nil
}

// targets lists the targets that this DIR was used with.
func (f *folder) targets() ([]string, error) {
	entries, err := os.ReadDir(f.statePath("apply"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	var out []string
	for _, e := range entries {
		t, err := f.readTarget(f.statePath("apply", e.Name(), "target.json"))
		if err != nil {
			return nil, err
		}
		if t != nil {
			out = append(out, t.Addr)
		}
	}
	return out, nil
}

// target is the address to use when a call gives addr, or none.
func (f *folder) target(addr string) (string, error) {
	if addr != "" {
		return addr, ParseTarget(addr)
	}
	known, err := f.targets()
	switch {
	case err != nil:
		return "", err
	case len(known) == 1:
		return known[0], nil
	case len(known) == 0:
		return "", usage("add --target HOST:PORT", "no target is given, and %s knows none", f.dir)
	}
	return "", usage("add --target with the one that is meant", "no target is given, and %s knows several: %s", f.dir, strings.Join(known, ", "))
}

func (f *folder) rememberTarget(addr string, s selection.Spec) error {
	path := f.targetFile(addr)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := writeJSON(path, targetFile{addr, s}); err != nil {
		return explain(fmt.Errorf("write target file: %w", err))
	}
	return nil
}

// maxSmall is more than a JSON file of ours can have. The largest is the status
// file of an apply: each of 9999 groups has a trail of some 6 KB, and as much
// again is left for everything else that is said of it.
const maxSmall = 128 << 20

// readSmall reads a JSON file of ours. One that is larger than they are is not
// read into memory.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSmall {
		return nil, &Error{
			Code: Refused, What: fmt.Sprintf("%s has %d bytes, more than such a file can have", path, info.Size()),
			Hint: "restore the file from a copy of this folder",
		}
	}
	return os.ReadFile(path)
}

// writeJSON replaces path, a file that people may read, in one step, making its
// folder if need be.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, raw)
}

// writeStatus is writeJSON for the files that are written once a second, and
// read by programs: without indentation they have half the size.
func writeStatus(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replaceFile(path, raw)
}

func replaceFile(path string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return fsx.WriteFileAtomic(path, append(raw, '\n'))
}
