package forebay

// #include "shim.h"
import "C"

import (
	"os"
	"syscall"
	"time"
)

// duplicate is a descriptor of the library's as a file of our own, so that it is closed when nobody waits for it any
// more.
func duplicate(fd C.int, name string) (*os.File, error) {
	syscall.ForkLock.RLock()
	own, err := syscall.Dup(int(fd))
	if err == nil {
		syscall.CloseOnExec(own)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, errorf(CodeNoMemory, "cannot make a descriptor to wait for: %v", err)
	}
	return os.NewFile(uintptr(own), name), nil
}

// listen calls look now, and whenever the descriptor says that there is something to do, until look answers false or
// the file is hushed. It waits through the poller of the runtime, which takes no thread.
func listen(bell *os.File, look func() bool) {
	conn, err := bell.SyscallConn()
	for more := true; more && err == nil; {
		looked := false
		err = conn.Read(func(uintptr) bool {
			if looked {
				return true
			}
			// The poller tells of what happens from here on: what was there before is found by the look.
			looked = true
			more = look()
			return !more
		})
	}
}

// hush ends a listen. It does not close the file, since it may be called by the look.
func hush(bell *os.File) {
	bell.SetReadDeadline(time.Unix(1, 0))
}
