package workload

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"tairlift/internal/resp"
)

const (
	fillBatch = 500  // commands sent before replies are read
	shortest  = 3600 // seconds to live of keys that expire, at least
)

// Fill writes keys of every type into one database: "k:<group>:<0...keys-1>".
// Half are strings, and one key in eight has a time to live of hours.
func Fill(ctx context.Context, addr string, secret resp.Secret, group, db, keys int) error {
	c, err := Open(ctx, addr, secret, db)
	if err != nil {
		return err
	}
	defer c.Close()
	release, err := c.CloseOn(ctx)
	if err != nil {
		return err
	}
	err = fill(c, group, keys)
	return errors.Join(err, release())
}

func fill(c *resp.Conn, group, keys int) error {
	sent := 0
	send := func(args ...string) error {
		if err := c.WriteCommand(args...); err != nil {
			return err
		}
		if sent++; sent < fillBatch {
			return nil
		}
		defer func() { sent = 0 }()
		return answers(c, sent)
	}
	for i := range keys {
		key := fmt.Sprintf("k:%d:%d", group, i)
		if err := send(filling(key, i)...); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		if i%8 == 3 {
			if err := send("EXPIRE", key, strconv.Itoa(shortest+i%shortest)); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
		}
	}
	if err := answers(c, sent); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// filling is the command that makes key number i.
func filling(key string, i int) []string {
	n := 3 + i%5
	args := make([]string, 0, 2+2*n)
	each := func(name string, element func(j int) []string) []string {
		args = append(args, name, key)
		for j := range n {
			args = append(args, element(j)...)
		}
		return args
	}
	item := func(j int) string { return fmt.Sprintf("item-%d-%d", i, j) }
	switch i % 10 {
	case 5, 6:
		return each("HMSET", func(j int) []string { return []string{"field-" + strconv.Itoa(j), item(j)} })
	case 7:
		return each("RPUSH", func(j int) []string { return []string{item(j)} })
	case 8:
		return each("SADD", func(j int) []string { return []string{item(j)} })
	case 9:
		return each("ZADD", func(j int) []string {
			return []string{strconv.FormatFloat(float64(i)/8+float64(j), 'g', -1, 64), item(j)}
		})
	case 4:
		return []string{"SET", key, strconv.Itoa(i)} // stored as a number
	}
	return []string{"SET", key, strings.Repeat(strconv.Itoa(i)+" ", 1+i%12)}
}

// answers sends what is buffered and reads n replies, none of which may be an
// error.
func answers(c *resp.Conn, n int) error {
	if err := c.Flush(); err != nil {
		return err
	}
	for range n {
		if _, err := c.SkipReply(); err != nil {
			return err
		}
	}
	return nil
}

// Open is a connection that has selected db.
func Open(ctx context.Context, addr string, secret resp.Secret, db int) (*resp.Conn, error) {
	c, err := resp.Dial(ctx, addr, secret)
	if err != nil {
		return nil, err
	}
	if _, err := c.Do(ctx, "SELECT", strconv.Itoa(db)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
