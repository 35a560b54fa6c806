#!/bin/bash
# A static build out of a vendor directory, as a program of somebody else's makes it: static.sh PREFIX LIBDIR SCRATCH
#
# The module is copied with its archive, another module vendors it, is built with the tag forebay_static, and must run
# without a libforebay.so.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=$1 libdir=$2 scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch/program"
cp -r "$here" "$scratch/module"
make --no-print-directory -C "$scratch/module" static PREFIX="$prefix" LIBDIR="$libdir"

cd "$scratch/program"
cat > main.go <<'END'
package main

import (
	"context"
	"fmt"

	"forebay.dev/forebay"
)

func main() {
	d, err := forebay.Open("memory:")
	if err != nil {
		panic(err)
	}
	defer d.Close()
	d.Handle("mail", func(_ context.Context, job *forebay.Job) error {
		fmt.Printf("%s\n", job.Payload)
		return nil
	})
	if _, err := d.Push(context.Background(), forebay.JobSpec{Kind: "mail", Payload: []byte("hello")}); err != nil {
		panic(err)
	}
	if err := d.Run(context.Background(), forebay.UntilIdle()); err != nil {
		panic(err)
	}
}
END
go mod init example.com/program 2>/dev/null
go mod edit -require forebay.dev/forebay@v0.0.0 -replace forebay.dev/forebay="$scratch/module"
go mod vendor
# Neither the other module nor pkg-config is there any more.
rm -rf "$scratch/module"
PKG_CONFIG=false CGO_LDFLAGS='' go build -mod=vendor -tags forebay_static -o program .
if ldd program | grep libforebay; then
    echo "the program needs a libforebay.so" >&2
    exit 1
fi
test "$(./program)" = hello
echo "1 program built out of a vendor directory: 1 test passed"
