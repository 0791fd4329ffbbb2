package apply

import (
	"fmt"
	"strconv"
	"testing"

	"tairlift/internal/redistest"
)

// Plain strings of an RDB are written by MSET. Where the target takes none, or
// not with one key among them, each is written by itself, and only what is
// refused then is a reject.
func TestWhatMSETRefusesIsWrittenSingly(t *testing.T) {
	if major, _ := redistest.Target(t).Version(); major < 6 {
		t.Skip("no ACL before 6.0")
	}
	r := bareRig(t, 1)
	var load []string
	want := map[string]string{"0 GET no": ""}
	for i := range 100 {
		load = append(load, fmt.Sprintf("k%d v%d", i, i))
		want["0 GET k"+strconv.Itoa(i)] = "v" + strconv.Itoa(i)
	}
	r.craft(1, 1, append(load, "no v")...)
	msets := func() int { return r.calls("mset") }

	r.applyAll(Options{})
	if msets() == 0 {
		t.Error("without a reason to refuse: MSET was not called")
	}
	for claim, rights := range map[string][]string{
		"MSET is not allowed":     {"~*", "+@all", "-mset"},
		"a key's name is refused": {"~k*", "~tairlift:*", "+@all"},
		"both":                    {"~k*", "~tairlift:*", "+@all", "-mset"},
	} {
		r.afresh()
		r.target.Do(t, append([]string{"ACL", "SETUSER", "u", "reset", "on", ">pw"}, rights...)...)
		before := msets()
		j := r.applyAll(Options{Secret: "u:pw", OnReject: RejectContinue, chunkEntries: 20})
		refused := 0
		if rights[0] != "~*" {
			refused = 1
		}
		if st := j.Status()[0]; st.Rejects != refused || st.Keys != 101 {
			t.Errorf("%s: got %d rejects, %d keys, want %d, 101", claim, st.Rejects, st.Keys, refused)
		}
		want["0 EXISTS no"] = fmt.Sprint(1 - refused)
		delete(want, "0 GET no")
		r.want(claim, want)
		if n := msets() - before; n > 5 {
			t.Errorf("%s: got %d of 5 MSETs, want no more once it was refused", claim, n)
		}
	}
}
