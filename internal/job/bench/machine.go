package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

// machine is what figures depend on, as pairs of name and value.
func (b *bench) machine() [][2]string {
	return [][2]string{
		{"date", b.begun.UTC().Format("2006-01-02 15:04 MST")},
		{"commit", output("git", "describe", "--tags", "--always", "--dirty")},
		{"cores", fmt.Sprintf("%d, %s", runtime.NumCPU(), find("/proc/cpuinfo", `(?m)^model name\s*: (.*)$`))},
		{"memory", find("/proc/meminfo", `(?m)^MemTotal:\s*(.*)$`)},
		{"system", strings.TrimSpace(runtime.GOOS + " " + runtime.GOARCH + " " + kernelVersion(output("uname", "-r")))},
		{"go", runtime.Version()},
		{"servers", "version " + b.target.Version + ", on loopback"},
		{"runs", fmt.Sprintf("%d of each pair, scale %g, %.0f s in all", b.runs, b.scale, b.took.Seconds())},
	}
}

// kernelVersion is the version in what `uname -r` says. What follows the numbers
// names a build, which is nothing that figures depend on.
func kernelVersion(release string) string {
	i := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if i <= 0 {
		return release
	}
	return strings.TrimRight(release[:i], ".")
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func find(path, pattern string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		return "unknown"
	}
	return strings.TrimSpace(string(m[1]))
}
