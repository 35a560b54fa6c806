package forebay

import (
	"encoding/hex"
	"time"
)

// ID names a job: a UUID of version 7, so that later jobs have greater ones. The zero ID is no id.
type ID [16]byte

// String is the id as text, for example 01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e.
func (id ID) String() string {
	var text [36]byte
	id.encode(&text)
	return string(text[:])
}

func (id ID) encode(text *[36]byte) {
	at := 0
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], part)
	}
}

// IsZero is whether it is no id.
func (id ID) IsZero() bool {
	return id == ID{}
}

// Time is when the id was made, to the millisecond; it means nothing for an id that is no UUID of version 7.
func (id ID) Time() time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

// MarshalText is the id as text; the zero ID is empty.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return []byte{}, nil
	}
	var text [36]byte
	id.encode(&text)
	return text[:], nil
}

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParseID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// ParseID reads an id from text, with hyphens or without.
func ParseID(text string) (ID, error) {
	digits := text
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		digits = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	}
	var id ID
	if len(digits) == 2*len(id) {
		if _, err := hex.Decode(id[:], []byte(digits)); err == nil {
			return id, nil
		}
	}
	return ID{}, errorf(CodeInvalid, "%q is no id; an id has 32 hexadecimal digits", text)
}
