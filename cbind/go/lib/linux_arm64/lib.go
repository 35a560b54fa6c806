// Package linux_arm64 is where libforebay.a and forebay.h stand for a static build on this platform: make -C cbind/go
// static puts them here. It is a package so that go mod vendor takes the directory along.
package linux_arm64
