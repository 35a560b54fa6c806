module forebay.dev/benches

go 1.24

require forebay.dev/forebay v0.0.0

replace forebay.dev/forebay => ../../cbind/go
