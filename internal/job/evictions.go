package job

import (
	"context"
	"fmt"
	"time"

	"tairlift/apply"
	"tairlift/checkpoint"
	"tairlift/verify"
)

const evictedHint = "set maxmemory-policy noeviction on the target and give it more memory; `tairlift verify --level full` tells which keys are missing, and clears this when none is; --new-epoch brings them back"

// evictedText is the taint of a target that evicts keys; empty without any.
func evictedText(e checkpoint.Evictions) string {
	if e.Count == 0 {
		return ""
	}
	text := fmt.Sprintf("the target has evicted %d %s since %s", e.Count, plural(int(e.Count), "key"), e.Since().UTC().Format(time.RFC3339))
	if e.Policy != "" {
		text += " (maxmemory-policy " + e.Policy + ")"
	}
	return text
}

// evicting tells of one group that it cannot be in sync while keys are missing
// that nobody has looked for.
func (d *sides) evicting(s *GroupStatus) bool {
	if d.evicted.Count == 0 {
		return false
	}
	since := d.evicted.Since()
	s.Reason, s.What, s.Hint, s.Since = "target-evicted", evictedText(d.evicted), evictedHint, &since
	return true
}

// lookForEvictions is what the target has evicted until now. What cannot be
// asked is for verify to say.
func lookForEvictions(ctx context.Context, o VerifyOptions, target string, rec checkpoint.Evictions) checkpoint.Evictions {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	rec, _ = apply.LookForEvictions(ctx, target, o.TargetSecret, rec)
	return rec
}

// taint brings into a report what the target has evicted: before its keys were
// read, which a report of every key settles, and after, which none does.
func taint(report *verify.Report, before, after checkpoint.Evictions) {
	switch {
	case after.Count > before.Count:
		report.Taint(evictedText(after)+fmt.Sprintf(", %d of them while keys were compared", after.Count-before.Count), true)
	case before.Count > 0:
		report.Taint(evictedText(before), false)
	}
}
