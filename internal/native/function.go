package native

import (
	"tairlift/internal/rdb"
	"tairlift/internal/resp"
)

// AppendFunctionLoad appends the command that loads a function library, in
// place of one of its name, from a payload as rdb.Options.OnFunction is told.
// Redis knows it from 7.0 on; the payload itself (FUNCTION RESTORE) is for
// servers of its RDB version only.
func AppendFunctionLoad(dst, payload []byte) ([]byte, error) {
	code, err := rdb.FunctionCode(nil, payload)
	if err != nil {
		return dst, err
	}
	return resp.AppendCommand(dst, []byte("FUNCTION"), []byte("LOAD"), []byte("REPLACE"), code), nil
}
