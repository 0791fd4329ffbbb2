package spool

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// minCompress is the payload size from which compression is tried: below it
// zstd's own header eats what it saves.
const minCompress = 64

// encoders compress for all writers of the process: an encoder holds about a
// megabyte of tables and works only during a call, so one for each processor
// serves any number of groups. The window is that of one frame, since no
// frame refers to another.
var encoders = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, encoderOptions()...)
	if err != nil {
		panic(err) // only on options that contradict each other
	}
	return e
})

func encoderOptions() []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithEncoderLevel(zstd.SpeedFastest), // docs/benchmarks.md has them all
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(frameTarget),
		zstd.WithEncoderCRC(false), // the frame has one over the stored bytes
		zstd.WithSingleSegment(true),
	}
}

var decoders = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxRaw),
		zstd.WithDecodeAllCapLimit(true)) // a payload cannot grow past what its frame says
	if err != nil {
		panic(err)
	}
	return d
})

// compress appends p compressed to dst; ok is false when that is not smaller
// than p, and dst then holds nothing of use.
func compress(dst, p []byte) (out []byte, ok bool) {
	if len(p) < minCompress {
		return dst, false
	}
	at := len(dst)
	out = encoders().EncodeAll(p, dst)
	return out, len(out)-at < len(p)
}

// decompress returns the rawLen bytes that stored stands for, in *buf.
func decompress(stored []byte, rawLen int, buf *[]byte) ([]byte, error) {
	if cap(*buf) < rawLen {
		*buf = make([]byte, 0, min(maxRaw, max(rawLen, 2*cap(*buf))))
	}
	// The capacity is the limit, so it must be exactly the length expected.
	raw, err := decoders().DecodeAll(stored, (*buf)[:0:rawLen])
	if err != nil {
		return nil, err
	}
	if len(raw) != rawLen {
		return nil, fmt.Errorf("found %d bytes, expected %d", len(raw), rawLen)
	}
	return raw, nil
}
