package cmdtest

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// keysOfType is how many keys of each type there are.
const keysOfType = 3

// Types are the words for keys of one type.
var Types = []string{"string", "number", "float", "bits", "hll", "list", "set", "intset", "zset", "geo", "hash", "fields", "stream"}

// Filler puts random names and values into templates. It may be used by one goroutine.
type Filler struct {
	// Prefix begins the name of every key.
	Prefix string
	// Host and Port are of a server for MIGRATE.
	Host, Port string
	// Payload is what DUMP said of a string.
	Payload string
	// Short makes deadlines that pass while a test runs.
	Short bool

	rand *rand.Rand
}

// NewFiller is a filler whose choices depend on the seed alone, but for those of
// deadlines, which begin now.
func NewFiller(seed uint64, prefix string) *Filler {
	return &Filler{Prefix: prefix, rand: rand.New(rand.NewPCG(seed, 1))}
}

// IntN is a random number below n.
func (f *Filler) IntN(n int) int { return f.rand.IntN(n) }

// Fill makes the commands of a template.
func (f *Filler) Fill(template string) [][]string {
	var out [][]string
	for line := range strings.SplitSeq(template, " ; ") {
		var args []string
		for _, word := range strings.Fields(line) {
			if name, ok := strings.CutPrefix(word, "{"); ok && strings.HasSuffix(name, "}") && !strings.Contains(name, `"`) {
				word = f.word(strings.TrimSuffix(name, "}"))
			}
			args = append(args, word)
		}
		out = append(out, args)
	}
	return out
}

// Populate are commands that give every key of every type a value.
func (f *Filler) Populate() [][]string {
	var out [][]string
	for i := range keysOfType {
		key := func(kind string) string { return fmt.Sprintf("%s%s%d", f.Prefix, kind, i) }
		out = append(out,
			[]string{"SET", key("string"), f.value()},
			[]string{"SET", key("number"), strconv.Itoa(f.IntN(100))},
			[]string{"SET", key("float"), "1.5"},
			[]string{"SET", key("bits"), f.value()},
			[]string{"PFADD", key("hll"), f.value(), "a", "b"},
			[]string{"RPUSH", key("list"), f.value(), f.member(), f.member(), f.value(), f.member()},
			[]string{"SADD", key("set"), f.member(), f.member(), f.member(), f.value()},
			[]string{"SADD", key("intset"), "1", "2", "70000", strconv.Itoa(f.IntN(100))},
			[]string{"ZADD", key("zset"), f.double(), f.member(), f.double(), f.member(), "2", f.member()},
			[]string{"GEOADD", key("geo"), "13.361389", "38.115556", "m1", "15.087269", "37.502669", "m2", "2.35", "48.85", "m3"},
			[]string{"HMSET", key("hash"), "f1", f.value(), "f2", f.value(), "count", "5", "float", "0.5"},
			[]string{"HMSET", key("fields"), "f1", f.value(), "f2", f.value(), "f3", "v"},
			[]string{"XADD", key("stream"), "*", "f1", f.value()},
			[]string{"XGROUP", "CREATE", key("stream"), "g1", "0"},
		)
	}
	return out
}

var scripts = map[string]string{
	"incr":    "return redis.call('INCRBY', KEYS[1], ARGV[1])",
	"several": "redis.call('SET', KEYS[1], ARGV[1]) redis.call('RPUSH', KEYS[2], ARGV[1]) return redis.call('HSET', KEYS[3], 'f', ARGV[1])",
	"effects": "if redis.replicate_commands then redis.replicate_commands() end redis.call('TIME') redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('SADD', KEYS[1], 'more')",
	"nothing": "return redis.call('EXISTS', KEYS[1])",
}

const library = `#!lua name=lib
redis.register_function('push', function(k, a) return redis.call('RPUSH', k[1], a[1]) end)
redis.register_function{function_name='look', callback=function(k, a) return redis.call('EXISTS', k[1]) end, flags={'no-writes'}}`

// word is what stands for a name in braces.
func (f *Filler) word(name string) string {
	if script, ok := scripts[strings.TrimSuffix(name, ".sha")]; ok {
		if strings.HasSuffix(name, ".sha") {
			sum := sha1.Sum([]byte(script))
			return hex.EncodeToString(sum[:])
		}
		return script
	}
	kind := strings.TrimRight(name, "0123456789")
	if index, fixed := strings.CutPrefix(name, kind); f.isKey(kind) {
		if kind == "any" {
			kind = Types[f.IntN(len(Types))]
			if fixed && index != "" {
				kind = "string"
			}
		}
		if index == "" {
			index = strconv.Itoa(f.IntN(keysOfType))
		}
		return f.Prefix + kind + index
	}
	now := time.Now()
	switch name {
	case "value":
		return f.value()
	case "member":
		return f.member()
	case "place":
		return "m" + strconv.Itoa(1+f.IntN(3))
	case "field":
		return "f" + strconv.Itoa(1+f.IntN(3))
	case "group":
		return "g" + strconv.Itoa(1+f.IntN(2))
	case "consumer":
		return "c" + strconv.Itoa(1+f.IntN(2))
	case "int":
		return strconv.Itoa(f.IntN(2000) - 1000)
	case "small":
		return strconv.Itoa(f.IntN(3))
	case "index":
		return strconv.Itoa(f.IntN(200))
	case "bit":
		return strconv.Itoa(f.IntN(2))
	case "double":
		return f.double()
	case "rawdouble":
		v, _ := strconv.ParseFloat(f.double(), 64)
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
	case "lon":
		return strconv.Itoa(10 + f.IntN(10))
	case "lat":
		return strconv.Itoa(35 + f.IntN(5))
	case "sec":
		return strconv.Itoa(f.seconds())
	case "ms":
		return strconv.Itoa(f.seconds()*1000 + f.IntN(1000))
	case "at":
		return strconv.FormatInt(now.Unix()+int64(f.seconds()), 10)
	case "atms":
		return strconv.FormatInt(now.UnixMilli()+int64(f.seconds())*1000, 10)
	case "lastms":
		return strconv.FormatInt(now.UnixMilli()-int64(f.IntN(2)), 10)
	case "payload":
		return f.Payload
	case "host":
		return f.Host
	case "port":
		return f.Port
	case "library":
		return library
	}
	panic("no such word: {" + name + "}")
}

func (f *Filler) isKey(kind string) bool {
	for _, t := range Types {
		if t == kind {
			return true
		}
	}
	return kind == "any" || kind == "vector"
}

func (f *Filler) seconds() int {
	if f.Short && f.IntN(4) == 0 {
		return 1 + f.IntN(2)
	}
	return 1000 + f.IntN(100_000)
}

func (f *Filler) member() string { return "m" + strconv.Itoa(1+f.IntN(6)) }

// double is no number so small that strtod says ERANGE: SORT of some versions believes
// that it was said of its own elements.
func (f *Filler) double() string {
	return []string{"1.5", "-2", "3", "0.1", "1e100", "-0.25", "7", "42.125", "1e-300", strconv.Itoa(f.IntN(100))}[f.IntN(10)]
}

func (f *Filler) value() string {
	switch f.IntN(6) {
	case 0:
		return strconv.Itoa(f.IntN(100_000))
	case 1:
		return ""
	case 2:
		return "\x00\r\n\xff" + f.member()
	case 3:
		return strings.Repeat("long ", 20+f.IntN(20))
	}
	return "v" + strconv.Itoa(f.IntN(50))
}
