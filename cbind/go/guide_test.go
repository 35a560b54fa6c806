package forebay_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs of the pages: each block of Go that is a program, and what the next block of text says it prints.
func TestTheProgramsOfThePagesPrintWhatTheySay(t *testing.T) {
	module, err := filepath.Abs(".")
	ok(t, err)
	for page, least := range map[string]int{"../../README.md": 1, "../../docs/go.md": 4} {
		programs := programsOf(t, page)
		if len(programs) < least {
			t.Fatalf("%s has %d programs, and should have %d", page, len(programs), least)
		}
		for i, program := range programs {
			t.Run(fmt.Sprint(filepath.Base(page), " ", i+1), func(t *testing.T) {
				equal(t, program.run(t, module), program.prints)
			})
		}
	}
}

type program struct{ text, prints string }

// programsOf reads the programs of a page. That of the README says in no block what it prints.
func programsOf(t *testing.T, page string) (programs []program) {
	t.Helper()
	text, err := os.ReadFile(page)
	ok(t, err)
	for _, block := range strings.Split(string(text), "\n```")[1:] {
		language, body, _ := strings.Cut(block, "\n")
		switch {
		case language == "go" && strings.HasPrefix(body, "package main"):
			programs = append(programs, program{text: body + "\n", prints: "hello world\n"})
		case language == "text" && len(programs) > 0:
			programs[len(programs)-1].prints = body + "\n"
		}
	}
	return programs
}

func (p program) run(t *testing.T, module string) string {
	t.Helper()
	folder := t.TempDir()
	gomod := "module example\n\ngo 1.24\n\nrequire forebay.dev/forebay v0.0.0\n\nreplace forebay.dev/forebay => " + module + "\n"
	ok(t, os.WriteFile(filepath.Join(folder, "go.mod"), []byte(gomod), 0o600))
	ok(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte(p.text), 0o600))
	root, err := exec.Command("go", "env", "GOROOT").Output()
	ok(t, err)
	formatted, err := exec.Command(filepath.Join(strings.TrimSpace(string(root)), "bin", "gofmt"), "-l", folder).CombinedOutput()
	ok(t, err)
	equal(t, string(formatted), "")
	command := exec.Command("go", "run", ".")
	command.Dir = folder
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
