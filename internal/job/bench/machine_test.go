package main

import "testing"

func TestAKernelIsNamedByItsVersionOnly(t *testing.T) {
	for release, want := range map[string]string{
		"6.18.44": "6.18.44", "6.18.44-somebody-v1": "6.18.44", "6.8.0-31-generic": "6.8.0", "5.10.el9": "5.10", "6.1+": "6.1",
		"unknown": "unknown", "": "",
	} {
		if got := kernelVersion(release); got != want {
			t.Errorf("%q: got %q, want %q", release, got, want)
		}
	}
}
