package command_test

import (
	"encoding/binary"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tairlift/internal/command"
	"tairlift/internal/held"
)

// Every command that sets a deadline is sent with a held one, and says which it is.
func TestADeadlineIsHeldInWhateverCommandItStands(t *testing.T) {
	shift := held.By(7)
	written := regexp.MustCompile(`@\d+`) // the held form of a deadline
	zset := string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(1.5)))
	for _, tt := range []struct{ in, want string }{
		{"EXPIRE k 100", "PEXPIREAT k @1700000100000"},
		{"PEXPIRE k 100000", "PEXPIREAT k @1700000100000"},
		{"EXPIREAT k 1700000100", "PEXPIREAT k @1700000100000"},
		{"PEXPIREAT k 1700000100000", "PEXPIREAT k @1700000100000"},
		{"PEXPIREAT k 1700000100000 GT", "PEXPIREAT k @1700000100000"},
		{"GETEX k PXAT 1700000100000", "PEXPIREAT k @1700000100000"},
		{"SETEX k 100 v", "SET k v | PEXPIREAT k @1700000100000"},
		{"PSETEX k 100000 v", "SET k v | PEXPIREAT k @1700000100000"},
		{"SET k v EX 100", "SET k v | PEXPIREAT k @1700000100000"},
		{"SET k v PXAT 1700000100000", "SET k v | PEXPIREAT k @1700000100000"},
		{"RESTORE k 100000 p REPLACE", "RESTORE k @1700000100000 p REPLACE ABSTTL"},
		{"RESTORE k 1700000100000 p REPLACE ABSTTL", "RESTORE k @1700000100000 p REPLACE ABSTTL"},
		{"RESTORE-ASKING k 100000 p", "RESTORE k @1700000100000 p REPLACE ABSTTL"},
		{"SLOTSRESTORE k 100000 p l 0 q", "RESTORE k @1700000100000 p REPLACE ABSTTL | RESTORE l 0 q REPLACE"},
		{"SLOTSRESTORE-ASYNC string k 100000 v", "SET k v | PEXPIREAT k @1700000100000"},
		{"SLOTSRESTORE-ASYNC object k 100000 p", "RESTORE k @1700000100000 p REPLACE ABSTTL"},
		{"SLOTSRESTORE-ASYNC expire k 100000", "PEXPIREAT k @1700000100000"},
		{"SLOTSRESTORE-ASYNC list k 100000 1 a", "RPUSH k a | PEXPIREAT k @1700000100000"},
		{"SLOTSRESTORE-ASYNC zset k 100000 1 m " + strconv.Quote(zset), "ZADD k 1.5 m | PEXPIREAT k @1700000100000"},
		// No deadline, or one that cannot pass meanwhile.
		{"PERSIST k", "PERSIST k"},
		{"SET k v KEEPTTL", "SET k v KEEPTTL"},
		{"PEXPIREAT k 1", "PEXPIREAT k @1"},
		{"EXPIREAT k 8796093022", "PEXPIREAT k @8796093022000"},
		{"EXPIREAT k 8796093023", "EXPIREAT k 8796093023"},
		{"RESTORE k 0 p REPLACE", "RESTORE k 0 p REPLACE"},
	} {
		for name, caps := range map[string]command.Caps{"7.0": redis7, "4.0": redis4} {
			if name == "4.0" && strings.HasSuffix(tt.in, "KEEPTTL") {
				continue // a script, which keeps whatever deadline it finds
			}
			caps.Hold = shift
			want := tt.want
			if !caps.AbsTTL { // the deadline follows a payload that has none
				want = strings.ReplaceAll(want, "RESTORE k @1700000100000 p REPLACE ABSTTL", "RESTORE k 0 p REPLACE | PEXPIREAT k @1700000100000")
			}
			want = written.ReplaceAllStringFunc(want, func(w string) string {
				ms, _ := strconv.ParseInt(w[1:], 10, 64)
				return strconv.FormatInt(int64(shift)+ms, 10)
			})
			args := words(t, tt.in)
			out, n, info, err := command.Lookup(args[0]).AppendRewrite(nil, encode(args), args, at, caps)
			got := strings.Join(decode(t, out), " | ")
			if err != nil || got != want || n != strings.Count(want, "|")+1 {
				t.Errorf("%s, target %s: got %s, %d commands, %v, want %s", tt.in, name, got, n, err, want)
			}
			if held.TooLate(info.DeadlineMS) {
				t.Errorf("%s: says its deadline is %d, the held one", tt.in, info.DeadlineMS)
			}
		}
	}
}

// A deadline that would be taken for a held one is refused by name, held or not.
func TestADeadlineThatLooksHeldIsRefused(t *testing.T) {
	for _, in := range []string{
		"PEXPIREAT k 144115188075855872", "EXPIRE k 144115188075856", "SET k v PXAT 144115188075855872",
		"RESTORE k 144115188075855872 p ABSTTL", "SLOTSRESTORE k 144115188075855872 p",
	} {
		args := words(t, in)
		_, _, _, err := command.Lookup(args[0]).AppendRewrite(nil, nil, args, 1000, redis7)
		var argErr *command.ArgError
		if !errors.As(err, &argErr) || !errors.Is(err, command.ErrTooLate) {
			t.Errorf("%s: got %v, want ErrTooLate", in, err)
		}
	}
}

func TestScriptsThatReadATimeToLive(t *testing.T) {
	for in, want := range map[string]bool{
		`EVAL "return redis.call('TTL', KEYS[1])" 1 k`:        true,
		`EVAL "return redis.call('pttl', KEYS[1])" 1 k`:       true,
		`EVAL "return redis.call(ARGV[1], KEYS[1])" 1 k PTTL`: true,
		`EVAL "return redis.call('GET', KEYS[1])" 1 ttl`:      false,
		`EVAL "return redis.call('GET', 'battles')" 1 k`:      false,
		`SET ttl ttl`: false,
	} {
		args := words(t, in)
		if got := command.Lookup(args[0]).ReadsTTL(args); got != want {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
}
