package forebay_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"forebay.dev/forebay"
)

// What a step of a scenario file says, field by field, and what comes of it.

// mistake is what a file says that cannot be done.
type mistake string

func (m mistake) Error() string { return string(m) }

func mistakenf(format string, args ...any) { panic(mistake(fmt.Sprintf(format, args...))) }

// answer is what comes of a step.
type answer map[string]any

// fields are those of a step, taken out one by one: what is left over is not known to this runner.
type fields map[string]json.RawMessage

// take reads a field into to, if it is there, and says whether it is.
func (f fields) take(name string, to any) bool {
	raw, there := f[name]
	delete(f, name)
	if there {
		if err := json.Unmarshal(raw, to); err != nil {
			mistakenf("field %q: %v", name, err)
		}
	}
	return there
}

func (f fields) need(name string, to any) {
	if !f.take(name, to) {
		mistakenf("field %q is missing", name)
	}
}

func (f fields) text(name string) (text string) {
	f.take(name, &text)
	return text
}

func (f fields) number(name string, otherwise int) int {
	f.take(name, &otherwise)
	return otherwise
}

func (f fields) ms(name string) time.Duration {
	return time.Duration(f.number(name, 0)) * time.Millisecond
}

func (f fields) queue() string {
	queue := "default"
	f.take("queue", &queue)
	return queue
}

func (f fields) end() {
	for name := range f {
		mistakenf("unknown field %q", name)
	}
}

// payload is what a push, a retry or a result carries, with its type, and whether there is one.
func payload(f fields) (carried []byte, contentType string, given bool) {
	var text, digits string
	var size int
	switch raw := f["json"]; {
	case raw != nil:
		delete(f, "json")
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			mistakenf("field \"json\": %v", err)
		}
		return compact.Bytes(), forebay.ContentTypeJSON, true
	case f.take("size", &size):
		return bytes.Repeat([]byte("x"), size), "", true
	case f.take("hex", &digits):
		carried, err := hex.DecodeString(digits)
		if err != nil {
			mistakenf("field \"hex\": %v", err)
		}
		return carried, "", true
	default:
		given = f.take("payload", &text)
		return []byte(text), "", given
	}
}

// told is what a payload is, in the ways that scenarios look at it.
func told(carried []byte, contentType string) answer {
	of := answer{
		"payload": nil, "hex": hex.EncodeToString(carried[:min(len(carried), 64)]), "size": len(carried),
		"content_type": contentType, "json": nil,
	}
	if utf8.Valid(carried) {
		of["payload"] = string(carried)
	}
	if contentType == forebay.ContentTypeJSON {
		of["json"] = json.RawMessage(carried)
	}
	return of
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func attempts(most int) any {
	if most == forebay.Unlimited {
		return "unlimited"
	}
	return most
}

func pairs(headers []forebay.Header) [][2]string {
	all := [][2]string{}
	for _, header := range headers {
		all = append(all, [2]string{header.Name, header.Value})
	}
	return all
}

// failed is the answer of a call that failed.
func failed(err error) answer {
	var known *forebay.Error
	switch {
	case errors.As(err, &known):
		name := strings.ToLower(strings.TrimPrefix(known.Code.String(), "FBY_E_"))
		return answer{"error": name, "message": known.Message}
	case errors.Is(err, context.DeadlineExceeded):
		return answer{"error": "timeout", "message": err.Error()}
	}
	return answer{"error": "?", "message": err.Error()}
}

// verdict is what a handler or a consumer answers: the error, and the result if there is none.
func verdict(f fields) (result []byte, contentType string, err error) {
	var verdict, text string
	f.need("verdict", &verdict)
	why := errors.New(f.text("error"))
	after := f.ms("after_ms")
	if f.take("result", &text) {
		result = []byte(text)
	} else {
		result, contentType, _ = payload(f)
	}
	switch verdict {
	case "done":
		return result, contentType, nil
	case "failed":
		return nil, "", why
	case "fatal":
		return nil, "", forebay.Fatal(why)
	case "retry":
		return nil, "", forebay.RetryAfter(after, why)
	case "snooze":
		return nil, "", forebay.Snooze(after)
	case "rate_limited":
		return nil, "", forebay.RateLimited(after)
	case "cancelled":
		return nil, "", forebay.Cancel(why)
	case "throw":
		panic(why.Error())
	}
	mistakenf("unknown verdict %q", verdict)
	return nil, "", nil
}
