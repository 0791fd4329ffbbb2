package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"tairlift/internal/resp"
)

// words are what texts are made of; with numbers between them they compress
// like the JSON that people keep in Redis.
var words = []string{
	"session", "user", "order", "item", "price", "status", "active", "pending", "created", "updated", "region", "north",
	"south", "mobile", "desktop", "channel", "partner", "coupon", "basket", "invoice", "street", "city", "country", "note",
}

// maker makes keys and commands of one group, the same ones each time.
type maker struct {
	group int
	rnd   *rand.Rand
	tmp   []byte
}

func newMaker(group int) *maker {
	return &maker{group: group, rnd: rand.New(rand.NewPCG(1, uint64(group)))}
}

func (m *maker) word() string { return words[m.rnd.IntN(len(words))] }

// text is an object of n fields, each of about 25 bytes.
func (m *maker) text(n int) []byte {
	m.tmp = append(m.tmp[:0], '{')
	for i := range n {
		if i > 0 {
			m.tmp = append(m.tmp, ',')
		}
		m.tmp = fmt.Appendf(m.tmp, "%q:%q", m.word(), m.word()+"-"+strconv.Itoa(m.rnd.IntN(1_000_000)))
	}
	return append(m.tmp, '}')
}

// token is 24 characters that do not compress well.
func (m *maker) token() string {
	return fmt.Sprintf("%012x%012x", m.rnd.Uint64N(1<<48), m.rnd.Uint64N(1<<48))
}

// command is name, key and n times what element gives.
func command(dst []byte, name, key string, n, each int, element func(dst []byte, i int) []byte) []byte {
	dst = resp.AppendArrayHeader(dst, 2+n*each)
	dst = resp.AppendBulkString(dst, name)
	dst = resp.AppendBulkString(dst, key)
	for i := range n {
		dst = element(dst, i)
	}
	return dst
}

func (m *maker) set(dst []byte, key string, value []byte, more ...string) []byte {
	dst = resp.AppendArrayHeader(dst, 3+len(more))
	dst = resp.AppendBulkString(dst, "SET")
	dst = resp.AppendBulkString(dst, key)
	dst = resp.AppendBulk(dst, value)
	for _, s := range more {
		dst = resp.AppendBulkString(dst, s)
	}
	return dst
}

// key appends the command that makes key number i: of 20 keys 12 are strings
// (4 tokens, 4 objects, 2 numbers, 2 with a TTL), 3 hashes, 2 lists, 1 set, 1
// sorted set; one in 400 holds hundreds of elements.
func (m *maker) key(dst []byte, i int) []byte {
	key := fmt.Sprintf("bench:%d:%08d", m.group, i)
	n := 4 + m.rnd.IntN(6)
	if i%400 == 39 {
		n = 300 + m.rnd.IntN(400)
	}
	field := func(dst []byte, i int) []byte {
		dst = resp.AppendBulkString(dst, m.word()+":"+strconv.Itoa(i))
		return resp.AppendBulkString(dst, m.word()+" "+strconv.Itoa(m.rnd.IntN(100_000)))
	}
	item := func(dst []byte, i int) []byte {
		return resp.AppendBulkString(dst, m.word()+":"+strconv.Itoa(i)+":"+strconv.Itoa(m.rnd.IntN(100_000)))
	}
	switch i % 20 {
	case 0, 1, 2, 3:
		return m.set(dst, key, []byte(m.token()))
	case 4, 5, 6, 7:
		return m.set(dst, key, m.text(4+m.rnd.IntN(8)))
	case 8, 9:
		return m.set(dst, key, strconv.AppendInt(nil, m.rnd.Int64N(1<<40), 10))
	case 10, 11:
		return m.set(dst, key, m.text(4), "EX", strconv.Itoa(36_000+m.rnd.IntN(36_000)))
	case 12, 13, 19:
		return command(dst, "HSET", key, n, 2, field)
	case 14, 15:
		return command(dst, "RPUSH", key, n, 1, item)
	case 16, 17:
		return command(dst, "SADD", key, n, 1, item)
	}
	return command(dst, "ZADD", key, n, 2, func(dst []byte, i int) []byte {
		dst = resp.AppendBulkInt(dst, int64(m.rnd.IntN(1_000_000)))
		return item(dst, i)
	})
}

// streamKeys is how many keys of each type the stream writes to.
const streamKeys = 20_000

// write appends the i-th command of a stream and tells how many commands that
// is: one, or a transaction of two.
func (m *maker) write(dst []byte, i int) ([]byte, int) {
	name := func(kind string) string {
		return fmt.Sprintf("live:%d:%s:%05d", m.group, kind, m.rnd.IntN(streamKeys))
	}
	do := func(args ...string) []byte { return resp.AppendCommandStrings(dst, args...) }
	num := func(n int) string { return strconv.Itoa(m.rnd.IntN(n)) }
	if i%100 == 50 {
		dst = do("MULTI")
		dst = do("INCR", name("n"))
		dst = do("INCR", name("n"))
		return do("EXEC"), 4
	}
	switch p := m.rnd.IntN(100); {
	case p < 30:
		return m.set(dst, name("s"), m.text(2+m.rnd.IntN(4))), 1
	case p < 35:
		return m.set(dst, name("e"), []byte(m.token()), "EX", strconv.Itoa(36_000+m.rnd.IntN(36_000))), 1
	case p < 50:
		return do("INCR", name("n")), 1
	case p < 65:
		return do("HSET", name("h"), "field:"+num(10), m.word()+" "+num(100_000)), 1
	case p < 75:
		return do("LPUSH", name("l"), m.word()+":"+num(100_000)), 1
	case p < 79:
		return do("RPOP", name("l")), 1
	case p < 89:
		return do("ZADD", name("z"), num(1_000_000), m.word()+":"+num(20)), 1
	case p < 94:
		return do("SADD", name("t"), m.word()+":"+num(100)), 1
	case p < 97:
		return do("EXPIRE", name("s"), strconv.Itoa(36_000+m.rnd.IntN(36_000))), 1
	}
	return do("DEL", name("s")), 1
}

// keys are the commands that fill one source with n keys.
func keys(group, n int) load {
	m := newMaker(group)
	var l load
	for i := range n {
		l.bytes = m.key(l.bytes, i)
	}
	l.replies = n
	return l
}

// writes are about n commands of a stream.
func writes(group, n int) load {
	m := newMaker(group)
	var l load
	for i := 0; l.replies < n; i++ {
		var more int
		l.bytes, more = m.write(l.bytes, i)
		l.replies += more
	}
	return l
}

// noise are n bytes that no encoder makes smaller.
func noise(n int) []byte {
	var seed [32]byte
	copy(seed[:], "tairlift bench")
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(p) // never fails
	return p
}
