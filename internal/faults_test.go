package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fault is a row of docs/faults.md.
type fault struct {
	number           string
	what, sees, does string
	proofs           []string
	codes            []string // exit codes that are named
	line             int
	reasons          []string // slugs of one word and more that stand alone in backticks
}

var (
	code   = regexp.MustCompile(`\bexit (\d+)(?: or (\d+))?`)
	quoted = regexp.MustCompile("`([a-z]+(?:-[a-z]+)*)`")
)

func readFaults(t *testing.T) []fault {
	t.Helper()
	text, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []fault
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| | ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 5 {
			t.Errorf("faults.md:%d: got %d cells, want 5", i+1, len(cells))
			continue
		}
		f := fault{number: cells[0], what: cells[1], sees: cells[2], does: cells[3], proofs: strings.Split(cells[4], ", "), line: i + 1}
		for _, m := range code.FindAllStringSubmatch(f.sees, -1) {
			f.codes = append(f.codes, m[1])
			if m[2] != "" {
				f.codes = append(f.codes, m[2])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(f.sees, -1) {
			f.reasons = append(f.reasons, m[1])
		}
		out = append(out, f)
	}
	return out
}

// Every fault that the documentation names is proved by a test that is there,
// and named by a reason that the code gives and operations.md explains.
func TestFaultsAreProved(t *testing.T) {
	tests, reasons := testsOf(t), reasonsOf(t)
	exits := exitCodes(t)
	coded := 0
	seen := map[string]int{}
	for i, f := range readFaults(t) {
		say := func(format string, args ...any) {
			t.Helper()
			t.Errorf("faults.md:%d: %s", f.line, fmt.Sprintf(format, args...))
		}
		if f.number != strconv.Itoa(i+1) {
			say("row %s, want %d", f.number, i+1)
		}
		if at := seen[f.sees+f.what]; at > 0 {
			say("the same as line %d", at)
		}
		seen[f.sees+f.what] = f.line
		for _, p := range f.proofs {
			if !tests[p] {
				say("there is no test %q", p)
			}
		}
		for _, c := range f.codes {
			if !exits[c] {
				say("there is no exit code %s", c)
			}
		}
		for _, r := range f.reasons {
			if strings.Contains(r, "-") && !reasons[r] {
				say("no part gives the reason %s", r)
			}
		}
		if len(f.codes) > 0 {
			coded++
		}
	}
	if coded < 40 {
		t.Errorf("got %d faults with an exit code, want 40 or more", coded)
	}
	t.Logf("%d faults, %d with an exit code", len(seen), coded)
}

// Every reason that status can show is explained.
func TestReasonsAreExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := reasonsOf(t)
	if len(reasons) < 70 {
		t.Errorf("got %d reasons in the code, want 70 or more: %v", len(reasons), reasons)
	}
	for r := range reasons {
		if !strings.Contains(string(text), "`"+r+"`") {
			t.Errorf("operations.md does not explain the reason %s", r)
		}
	}
}

// testsOf are the tests of the module as the documentation names them: by
// package, or as a script.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != ".." && strings.HasPrefix(e.Name(), "."):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range test.FindAllSubmatch(text, -1) {
				out[filepath.Base(filepath.Dir(path))+"."+string(m[1])] = true
			}
		case strings.HasSuffix(path, ".txtar"):
			out["script "+strings.TrimSuffix(filepath.Base(path), ".txtar")] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exitCodes are those of `tairlift --help`.
func exitCodes(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../cmd/tairlift/testdata/script/help.txtar")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ *(\d+)  `).FindAllSubmatch(text, -1) {
		out[string(m[1])] = true
	}
	return out
}

// reasonsOf are the slugs that capture, apply and the job give as a reason: what
// is assigned to a field of that name, given to what sets it, or a constant or
// the value of a map that stands for one.
func reasonsOf(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	slug := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && slug.MatchString(s) {
				out[s] = true
			}
		}
	}
	isReason := func(name string) bool { return strings.EqualFold(name, "reason") }
	for _, dir := range []string{"../capture", "../apply", "../internal/job", "../internal/pace"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: got %v, %v", dir, files, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if id, ok := n.Key.(*ast.Ident); ok && isReason(id.Name) {
						add(n.Value)
					}
				case *ast.AssignStmt:
					for i, l := range n.Lhs {
						if s, ok := l.(*ast.SelectorExpr); ok && isReason(s.Sel.Name) && len(n.Rhs) == len(n.Lhs) {
							add(n.Rhs[i])
						}
					}
				case *ast.CallExpr:
					if at, ok := reasonArgs[calledName(n)]; ok && at < len(n.Args) {
						add(n.Args[at])
					}
				case *ast.ReturnStmt: // classWait, "target-clients"
					if len(n.Results) == 2 {
						if id, ok := n.Results[0].(*ast.Ident); ok && id.Name == "classWait" {
							add(n.Results[1])
						}
					}
				case *ast.ValueSpec:
					for i, id := range n.Names {
						switch {
						case i >= len(n.Values):
						case strings.HasPrefix(id.Name, "Reason"), strings.HasPrefix(id.Name, "held"):
							add(n.Values[i])
						case slices.Contains([]string{"transient", "failures", "hints"}, id.Name):
							addMap(n.Values[i], id.Name == "hints", add)
						}
					}
				}
				return true
			})
		}
	}
	return out
}

// reasonArgs tell which argument of a function is a reason.
var reasonArgs = map[string]int{"set": 1, "stop": 0, "object": 0, "objectTo": 1}

func calledName(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// addMap adds the keys or the values of a map's literal.
func addMap(e ast.Expr, keys bool, add func(ast.Expr)) {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return
	}
	for _, el := range lit.Elts {
		if kv, ok := el.(*ast.KeyValueExpr); ok && keys {
			add(kv.Key)
		} else if ok {
			add(kv.Value)
		}
	}
}
