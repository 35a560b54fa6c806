package forebay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"forebay.dev/forebay"
)

// The scenario files of tests/scenarios, run in Go on every engine; their README tells what they say. The runners of
// the other languages have the same parts.

const scenarios = "../../tests/scenarios"

// runStep does one step, and says what is wrong.
func runStep(s *stage, name string, f fields) (fault string) {
	defer func() {
		if wrong, is := recover().(mistake); is {
			fault = string(wrong)
		}
	}()
	var wanted json.RawMessage = []byte("{}")
	f.take("expect", &wanted)
	of, err := s.step(name, f)
	if err != nil {
		of = failed(err)
	}
	f.end()
	expected, found := read(wanted).(map[string]any), read(of).(map[string]any)
	if _, expects := expected["error"]; found["error"] != nil && !expects {
		return fmt.Sprintf("failed with %v: %v", found["error"], found["message"])
	}
	if difference := differs("answer", expected, found, true); difference != "" {
		return difference + "; the answer was " + written(of)
	}
	return ""
}

// scenario is a file.
type scenario struct {
	Scenario, Text      string
	Shows, Needs, Fails []string
	Open                map[string]string
	Steps               []fields
}

// runScenario runs one scenario on one engine, and says what is wrong.
func runScenario(t *testing.T, of scenario, at place) string {
	// Ids grow within a thread, and goroutines move between threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &stage{
		t: t, place: at, scratch: t.TempDir(), options: of.Open,
		jobs: map[string]forebay.ID{}, deliveries: map[string]*forebay.Delivery{},
	}
	ok(t, s.open(at.URL))
	t.Cleanup(s.release)
	for i, f := range of.Steps {
		var name string
		f.need("do", &name)
		if fault := runStep(s, name, f); fault != "" {
			return fmt.Sprintf("step %d (%s): %s", i+1, name, fault)
		}
	}
	return ""
}

// runFolder runs every file of a folder on every engine that has what it needs.
func runFolder(t *testing.T, folder string) {
	listed, err := os.ReadFile(scenarios + "/../engines.json")
	ok(t, err)
	var places []place
	ok(t, json.Unmarshal(listed, &places))
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	ok(t, err)
	runs := 0
	for _, path := range paths {
		stem := strings.TrimSuffix(filepath.Base(path), ".json")
		text, err := os.ReadFile(path)
		ok(t, err)
		fits := 0
		for _, at := range places {
			var of scenario
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.DisallowUnknownFields()
			ok(t, decoder.Decode(&of))
			if of.Scenario != stem || of.Text == "" || (len(of.Shows) == 0) == (len(of.Fails) == 0) {
				t.Fatalf("%s: it must have its file's name, say something, and show rows or fail", path)
			}
			missing := func(need string) bool { return !slices.Contains(at.Has, need) }
			if slices.ContainsFunc(of.Needs, missing) {
				continue
			}
			fits++
			if slices.ContainsFunc(of.Needs, lacking) || slices.ContainsFunc(of.Steps, subscribes) {
				continue
			}
			runs++
			t.Run(stem+"/"+at.Engine, func(t *testing.T) {
				fault := runScenario(t, of, at)
				if len(of.Fails) == 0 && fault != "" {
					t.Error(fault)
				}
				for _, part := range of.Fails {
					if !strings.Contains(fault, part) {
						t.Errorf("it should have failed with %q: %q", part, fault)
					}
				}
			})
		}
		if fits == 0 {
			t.Errorf("%s: no engine has what it needs", stem)
		}
	}
	t.Logf("Go: %d scenarios, %d runs", len(paths), runs)
	if runs == 0 {
		t.Fatal("no scenario was found")
	}
}

// lacking is whether Go has no such thing: a push waits as long as its context, and is not told how long.
func lacking(need string) bool { return need == "waits" }

// subscribes is whether a step wants what has happened so far: in Go events are an iteration, which waits for more.
func subscribes(f fields) bool { return string(f["do"]) == `"subscribe"` }

func TestEveryScenarioOnEveryEngine(t *testing.T) {
	folder := os.Getenv("FOREBAY_SCENARIOS")
	if folder == "" {
		folder = scenarios
	}
	runFolder(t, folder)
}

// What is wrong in them is found out, at the step where it is.
func TestEveryWrongScenarioFails(t *testing.T) {
	runFolder(t, scenarios+"/wrong")
}
