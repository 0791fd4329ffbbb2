package job

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseGroups(t *testing.T) {
	tests := []struct {
		claim string
		in    []string
		want  []Group
		err   string
	}{
		{"none is none", nil, nil, ""},
		{"they are sorted by number", []string{"2=b:2", "1=a:1"}, []Group{{1, "a:1"}, {2, "b:2"}}, ""},
		{"an IPv6 address has brackets", []string{"1=[::1]:6379"}, []Group{{1, "[::1]:6379"}}, ""},
		{"an address alone is refused", []string{"a:1"}, nil, `--group "a:1" is not ID=HOST:PORT`},
		{"a group needs a number", []string{"x=a:1"}, nil, `--group "x=a:1": group "x" is not a number from 1 to 9999`},
		{"group 0 is refused", []string{"0=a:1"}, nil, `--group "0=a:1": group "0" is not a number from 1 to 9999`},
		{"a port is needed", []string{"1=a"}, nil, `--group "1=a": "a" is not HOST:PORT`},
		{"a port is a number", []string{"1=a:b"}, nil, `--group "1=a:b": "a:b" has no port from 1 to 65535`},
		{"port 0 is refused", []string{"1=a:0"}, nil, `--group "1=a:0": "a:0" has no port from 1 to 65535`},
		{"a host is needed", []string{"1=:6379"}, nil, `--group "1=:6379": ":6379" has no host name`},
		{"a password has no place in an address", []string{"1=user:pass@a:1"}, nil, `--group "1=user:pass@a:1": "user:pass@a:1" is not HOST:PORT`},
		{"a group is named once", []string{"1=a:1", "1=b:1"}, nil, `--group names group 1 twice`},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			got, err := ParseGroups(tt.in)
			checkError(t, err, Usage, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// checkError checks that err is an *Error with this code and text, and with a
// hint; no text means no error.
func checkError(t *testing.T, err error, code Code, what string) {
	t.Helper()
	if what == "" {
		if err != nil {
			t.Fatalf("got error %v, want none", err)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *Error that says %q", err, what)
	}
	if e.Code != code || e.What != what {
		t.Errorf("got %d %q, want %d %q", e.Code, e.What, code, what)
	}
	if e.Hint == "" {
		t.Errorf("%q has no hint", e.What)
	}
}

func TestOnly(t *testing.T) {
	groups := []Group{{1, ""}, {2, ""}, {4, ""}, {5, ""}, {12, ""}}
	tests := []struct {
		claim string
		in    string
		want  string
		err   string
	}{
		{"nothing picks all", "", "1, 2, 4, 5, 12", ""},
		{"numbers and ranges", "1,4-9", "1, 4, 5", ""},
		{"a range may be one", "12-12", "12", ""},
		{"spaces do not matter", "2, 5", "2, 5", ""},
		{"a group that is not there is an error", "1,3", "", "--only 1,3: the job has no such group"},
		{"a range that picks nothing is one too", "6-9", "", "--only 6-9: the job has no such group"},
		{"a range ends behind its begin", "9-4", "", `--only "9-4": the range 9-4 ends before it begins`},
		{"words are refused", "all", "", `--only "all": group "all" is not a number from 1 to 9999`},
		{"an empty part is refused", "1,,2", "", `--only "1,,2": group "" is not a number from 1 to 9999`},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			o, err := ParseOnly(tt.in)
			var picked []Group
			if err == nil {
				picked, err = o.pick(groups)
			}
			checkError(t, err, Usage, tt.err)
			if err == nil {
				if got := idList(picked); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}
