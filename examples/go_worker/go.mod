module example.com/go_worker

go 1.24

require forebay.dev/forebay v0.0.0

// In a program of your own, `go get forebay.dev/forebay` instead.
replace forebay.dev/forebay => ../../cbind/go
