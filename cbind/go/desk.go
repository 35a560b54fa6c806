package forebay

// #include "shim.h"
// #cgo noescape free
// #cgo nocallback free
import "C"

import (
	"sync"
	"unsafe"
)

// buffer is C memory that grows: texts and payloads are written to it one after the other, and the structs that a
// call is given point there.
type buffer struct {
	at   unsafe.Pointer
	size int
	used int
}

// reserve makes room for so many bytes, and forgets what was there.
func (b *buffer) reserve(size int) {
	if b.size < size {
		b.free()
		b.size = max(size, 4<<10)
		b.at = C.malloc(C.size_t(b.size))
	}
	b.used = 0
}

// text copies a text to the buffer, where there must be room.
func (b *buffer) text(text string) C.fby_bytes {
	return b.bytes(unsafe.Slice(unsafe.StringData(text), len(text)))
}

func (b *buffer) bytes(bytes []byte) C.fby_bytes {
	if len(bytes) == 0 {
		return C.fby_bytes{}
	}
	to := unsafe.Add(b.at, b.used)
	copy(unsafe.Slice((*byte)(to), len(bytes)), bytes)
	b.used += len(bytes)
	return C.fby_bytes{ptr: to, len: C.size_t(len(bytes))}
}

func (b *buffer) free() {
	C.free(b.at)
	b.at, b.size = nil, 0
}

// array is C memory for elements of one type.
type array[T any] struct {
	at   *T
	size int
}

// reserve makes room for so many elements, and forgets what was there.
func (a *array[T]) reserve(size int) []T {
	if a.size < size {
		a.free()
		var one T
		a.size = max(size, 16)
		a.at = (*T)(C.malloc(C.size_t(a.size) * C.size_t(unsafe.Sizeof(one))))
	}
	return unsafe.Slice(a.at, size)
}

func (a *array[T]) free() {
	C.free(unsafe.Pointer(a.at))
	a.at, a.size = nil, 0
}

// list is names in C memory.
type list struct {
	array[C.fby_bytes]
	texts buffer
}

func (l *list) write(names []string) {
	size := 0
	for _, name := range names {
		size += len(name)
	}
	l.texts.reserve(size)
	for i, to := 0, l.reserve(len(names)); i < len(names); i++ {
		to[i] = l.texts.text(names[i])
	}
}

func (l *list) free() {
	l.array.free()
	l.texts.free()
}

// desk is where one push at a time is written to.
type desk struct {
	specs   array[C.fby_job_spec]
	headers array[C.fby_header]
	tokens  array[C.fby_bytes]
	reports array[C.fby_pushed]
	buffer
}

func (d *desk) free() {
	d.specs.free()
	d.headers.free()
	d.tokens.free()
	d.reports.free()
	d.buffer.free()
}

// depot keeps desks for the next push. A sync.Pool would not do: it forgets without freeing.
type depot struct {
	mu     sync.Mutex
	desks  []*desk
	closed bool
}

const (
	// keptDesks is how many desks are kept: more pushes at once than that allocate.
	keptDesks = 16
	// keptBytes is the most bytes that a desk keeps, and keptSpecs the most jobs.
	keptBytes = 1 << 20
	keptSpecs = 1 << 12
)

func (d *depot) take() *desk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := len(d.desks) - 1; last >= 0 {
		taken := d.desks[last]
		d.desks = d.desks[:last]
		return taken
	}
	return &desk{}
}

func (d *depot) give(back *desk) {
	d.mu.Lock()
	kept := !d.closed && len(d.desks) < keptDesks && back.size <= keptBytes &&
		max(back.specs.size, back.headers.size, back.tokens.size) <= keptSpecs
	if kept {
		d.desks = append(d.desks, back)
	}
	d.mu.Unlock()
	if !kept {
		back.free()
	}
}

// clear frees all, and whatever is given back from now on.
func (d *depot) clear() {
	d.mu.Lock()
	desks := d.desks
	d.desks, d.closed = nil, true
	d.mu.Unlock()
	for _, desk := range desks {
		desk.free()
	}
}
