package forebay_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// What a scenario file expects of an answer, and how an answer is held against it.

// differs says what does not fit, at which place of the answer; nothing if all does.
func differs(at string, wanted, found any, there bool) string {
	if !there {
		return fmt.Sprintf("%s is missing, not %s", at, written(wanted))
	}
	here := fmt.Sprintf("%s is %s, not %s", at, written(found), written(wanted))
	switch wanted := wanted.(type) {
	case map[string]any:
		for rule, value := range wanted {
			if strings.HasPrefix(rule, "$") && !keeps(rule, value, found) {
				return here
			} else if strings.HasPrefix(rule, "$") {
				continue
			}
			of, is := found.(map[string]any)
			if !is {
				return here
			}
			inside, there := of[rule]
			if difference := differs(at+"."+rule, value, inside, there); difference != "" {
				return difference
			}
		}
		return ""
	case []any:
		of, is := found.([]any)
		if !is || len(of) != len(wanted) {
			return here
		}
		for i := range wanted {
			if difference := differs(fmt.Sprintf("%s[%d]", at, i), wanted[i], of[i], true); difference != "" {
				return difference
			}
		}
		return ""
	case json.Number:
		if number, is := found.(json.Number); is && same(wanted, number) {
			return ""
		}
		return here
	}
	if wanted != found {
		return here
	}
	return ""
}

// same compares whole numbers exactly, and others as they are.
func same(one, other json.Number) bool {
	whole, err := one.Int64()
	if number, failed := other.Int64(); err == nil && failed == nil {
		return whole == number
	}
	return value(one) == value(other)
}

func value(of any) float64 {
	number, is := of.(json.Number)
	if !is {
		mistakenf("%v is no number", of)
	}
	float, _ := number.Float64()
	return float
}

func keeps(rule string, wanted, found any) bool {
	_, isNumber := found.(json.Number)
	switch rule {
	case "$contains":
		text, is := found.(string)
		return is && !slices.ContainsFunc(wanted.([]any), func(part any) bool { return !strings.Contains(text, part.(string)) })
	case "$from":
		return isNumber && value(wanted) <= value(found)
	case "$to":
		return isNumber && value(found) <= value(wanted)
	case "$not":
		return differs("", wanted, found, true) != ""
	}
	return false
}

func written(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// read makes of JSON, or of what becomes JSON, what it is compared as.
func read(value any) (as any) {
	decoder := json.NewDecoder(strings.NewReader(written(value)))
	decoder.UseNumber()
	if err := decoder.Decode(&as); err != nil {
		mistakenf("%v", err)
	}
	return as
}
