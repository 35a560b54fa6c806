module forebay.dev/forebay

// What decides: runtime.AddCleanup and the cgo directives noescape and nocallback are of 1.24; iterators of 1.23.
go 1.24
