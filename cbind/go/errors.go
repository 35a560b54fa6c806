package forebay

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Code says what kind of thing went wrong. The numbers are those of the C ABI, and are never used for anything
// else.
type Code int32

// The codes an [Error] may have. A later version of the library may have more: treat them as failures.
const (
	CodeInvalid       Code = C.FBY_E_INVALID
	CodeNoMemory      Code = C.FBY_E_NO_MEMORY
	CodeFull          Code = C.FBY_E_FULL
	CodeClosed        Code = C.FBY_E_CLOSED
	CodeTimeout       Code = C.FBY_E_TIMEOUT
	CodeStale         Code = C.FBY_E_STALE
	CodeConflict      Code = C.FBY_E_CONFLICT
	CodeNotFound      Code = C.FBY_E_NOT_FOUND
	CodeStorage       Code = C.FBY_E_STORAGE
	CodeForked        Code = C.FBY_E_FORKED
	CodeWouldDeadlock Code = C.FBY_E_WOULD_DEADLOCK
	CodeUnsupported   Code = C.FBY_E_UNSUPPORTED
	CodeInterrupted   Code = C.FBY_E_INTERRUPTED
	CodeJobFailed     Code = C.FBY_E_JOB_FAILED
	CodeUnknownKind   Code = C.FBY_E_UNKNOWN_KIND
	CodeCorrupt       Code = C.FBY_E_CORRUPT
	CodeFutureFormat  Code = C.FBY_E_FUTURE_FORMAT
	CodeAlreadyOpen   Code = C.FBY_E_ALREADY_OPEN
	CodeEncode        Code = C.FBY_E_ENCODE
	CodeCancelled     Code = C.FBY_E_CANCELLED
	CodeUnknown       Code = C.FBY_E_UNKNOWN
	CodeShed          Code = C.FBY_E_SHED
	CodeDecode        Code = C.FBY_E_DECODE
	CodePanic         Code = C.FBY_E_PANIC
)

// String is the name of the code as in the C header, for example FBY_E_FULL.
func (c Code) String() string {
	return C.GoString(C.fby_status_name(C.fby_status(c)))
}

// What [errors.Is] finds in an error of this package.
var (
	// ErrInvalid: an argument, a name, an option or a job is not valid.
	ErrInvalid error = sentinel(CodeInvalid)
	// ErrNoMemory: memory, a thread or a descriptor could not be had.
	ErrNoMemory error = sentinel(CodeNoMemory)
	// ErrFull: the queue holds as many jobs as it may, or the disk is full.
	ErrFull error = sentinel(CodeFull)
	// ErrClosed: the dispatcher has stopped, or begins to.
	ErrClosed error = sentinel(CodeClosed)
	// ErrTimeout: the time to wait was up first.
	ErrTimeout error = sentinel(CodeTimeout)
	// ErrStale: the delivery no longer counts; it was answered, its lease was lost, or it took too long.
	ErrStale error = sentinel(CodeStale)
	// ErrConflict: the key belongs to another job.
	ErrConflict error = sentinel(CodeConflict)
	// ErrNotFound: there is no job, option or file of that name or id.
	ErrNotFound error = sentinel(CodeNotFound)
	// ErrStorage: the store or the file system failed.
	ErrStorage error = sentinel(CodeStorage)
	// ErrForked: opened before a fork, used in the child.
	ErrForked error = sentinel(CodeForked)
	// ErrWouldDeadlock: a handler would wait for itself.
	ErrWouldDeadlock error = sentinel(CodeWouldDeadlock)
	// ErrUnsupported: the engine, the clock or this build cannot do that.
	ErrUnsupported error = sentinel(CodeUnsupported)
	// ErrJobFailed: the job that was waited for ended otherwise than well.
	ErrJobFailed error = sentinel(CodeJobFailed)
	// ErrUnknownKind: no handler for this kind is registered here, and the option unknown_kinds is reject.
	ErrUnknownKind error = sentinel(CodeUnknownKind)
	// ErrCorrupt: the file is damaged; nothing was changed.
	ErrCorrupt error = sentinel(CodeCorrupt)
	// ErrFutureFormat: a newer version wrote the file; nothing was changed.
	ErrFutureFormat error = sentinel(CodeFutureFormat)
	// ErrAlreadyOpen: the file is in use by another process or dispatcher.
	ErrAlreadyOpen error = sentinel(CodeAlreadyOpen)
	// ErrEncode: a payload or a result cannot be encoded.
	ErrEncode error = sentinel(CodeEncode)
	// ErrCancelled: the job was cancelled. Also what [context.Cause] says in the handler of such a job.
	ErrCancelled error = sentinel(CodeCancelled)
	// ErrUnknown: the store failed before it could say whether the write was kept.
	ErrUnknown error = sentinel(CodeUnknown)
	// ErrShed: a rule against overload gave the job up.
	ErrShed error = sentinel(CodeShed)
	// ErrDecode: a payload or a result cannot be decoded.
	ErrDecode error = sentinel(CodeDecode)
	// ErrPanic: a defect of Forebay itself; the process goes on.
	ErrPanic error = sentinel(CodePanic)
)

// sentinel is a code that stands for every error with it.
type sentinel Code

func (s sentinel) Error() string {
	return "forebay: " + Code(s).String()
}

// Error is what every call of this package fails with, unless it is the error of a context. Ask for its kind with
// [errors.Is] and one of ErrFull, ErrClosed and so on.
type Error struct {
	// Code says what kind of error it is.
	Code Code
	// Message names the thing and the mend.
	Message string
	// Retryable is whether the same call may work later without a change by the caller.
	Retryable bool
	// cause is what it came from on this side, if it did.
	cause error
}

// Error is the message.
func (e *Error) Error() string {
	return "forebay: " + e.Message
}

// Is makes errors.Is(err, ErrFull) true for every error with that code.
func (e *Error) Is(target error) bool {
	code, ok := target.(sentinel)
	return ok && Code(code) == e.Code
}

// Unwrap is the error it came from, if that was one of Go's: of an encoder, for example.
func (e *Error) Unwrap() error {
	return e.cause
}

func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func closed() error {
	return errorf(CodeClosed, "the dispatcher is closed")
}

// failure makes an error of what a call answered, and frees what the library made for it.
func failure(status C.fby_status, made *C.fby_error) error {
	if status == C.FBY_OK {
		return nil
	}
	if made == nil {
		return errorf(Code(status), "%s", Code(status))
	}
	defer C.fby_error_free(made)
	return &Error{
		Code:      Code(status),
		Message:   goString(C.fby_error_message(made)),
		Retryable: bool(C.fby_error_retryable(made)),
	}
}

// goString copies a text of the library's.
func goString(text C.fby_bytes) string {
	return string(view(text))
}

// goBytes copies bytes of the library's.
func goBytes(bytes C.fby_bytes) []byte {
	return append([]byte(nil), view(bytes)...)
}

// view is bytes of the library's where they stand.
func view(bytes C.fby_bytes) []byte {
	return unsafe.Slice((*byte)(bytes.ptr), bytes.len)
}

// loan lends a string to a call of the library for as long as that takes.
func loan(text string) C.fby_bytes {
	return C.fby_bytes{ptr: unsafe.Pointer(unsafe.StringData(text)), len: C.size_t(len(text))}
}
