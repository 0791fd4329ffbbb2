// Package meter shows a person how far a job is: a bar and the slowest groups on a
// terminal, one line per interval anywhere else.
//
// The types. View is the state of the job at one moment, GroupLine that of one group
// in it. A Meter turns the Views it is shown into text, with the rate and the time
// left that follow from them.
//
// The life of a meter:
//
//	m := meter.New(os.Stderr, terminal, 10*time.Second)
//	slog.SetDefault(slog.New(slog.NewTextHandler(m.LogWriter(), nil)))
//	for each tick { m.Show(view) }
//	m.Done()
//
// On a terminal this stands at the bottom of the screen and is drawn anew in place:
//
//	full-sync 35% [======>.............] 1.2 GiB/3.4 GiB, 85 MiB/s, lag 12 MiB 3.2s, eta 26s
//	  group 2 full-sync 200 MiB/1.7 GiB, lag 8.0 MiB 3.2s
//
// and elsewhere every interval brings one line:
//
//	full-sync 1.2 GiB/3.4 GiB 35%, 85 MiB/s, lag 12 MiB 3.2s, eta 26s
//	catching-up 3.4 GiB/?, 0 B/s, lag 40 MiB 1m12s, eta ?, waiting: target-oom
//
// Bytes done and of how many, rate, lag in bytes and in seconds, and the time left are
// always there, "?" standing for what is not known; whoever waits is named with the
// reason.
//
// The rate is that of the last ten seconds. The time left is what is missing to the
// total at that rate; without a total, what the lag still is at the rate at which it
// shrinks.
//
// Caveats.
//
//   - Show is cheap when nothing is due, so callers may call it as often as they like.
//   - On a terminal, other output to the same terminal must go through LogWriter, or
//     it lands inside the bar.
//   - What was drawn is cut at the terminal's width: a line that wraps cannot be drawn
//     anew in place.
package meter
