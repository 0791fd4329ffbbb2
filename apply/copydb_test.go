package apply

import "testing"

// The second name of COPY ... DB is a key of that database, and none of the
// selected one: what others have there stays.
func TestACopyToAnotherDatabaseNamesNothingInItsOwn(t *testing.T) {
	t.Run("which is not replaced", func(t *testing.T) {
		r := bareRig(t, 1)
		r.target.Do(t, "SET", "b", "foreign")
		r.craft(1, 1).write("SET a 1", "COPY a b DB 1").seal()
		r.applyAll(Options{OnExisting: ExistingReplace})
		r.want("behind the copy", map[string]string{"0 GET b": "foreign", "1 GET b": "1"})
	})
	t.Run("nor deleted behind a new full sync", func(t *testing.T) {
		r := bareRig(t, 1)
		r.craft(1, 1, "k v").write("SET a 1", "COPY a b DB 1").seal()
		r.applyAll(Options{})
		r.target.Do(t, "SET", "b", "foreign")
		r.craft(1, 2, "k v", "a 1").seal()
		r.applyAll(Options{MaxDeletes: 100})
		r.want("behind the second epoch", map[string]string{"0 GET b": "foreign", "0 GET a": "1", "1 EXISTS b": "0"})
	})
}
