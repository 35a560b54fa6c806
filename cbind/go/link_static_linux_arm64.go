//go:build forebay_static

package forebay

// #cgo CFLAGS: -I${SRCDIR}/lib/linux_arm64
// #cgo LDFLAGS: ${SRCDIR}/lib/linux_arm64/libforebay.a -lutil -lrt -lpthread -lm -ldl
import "C"

// Else the archive would be left out of a vendor directory.
import _ "forebay.dev/forebay/lib/linux_arm64"
