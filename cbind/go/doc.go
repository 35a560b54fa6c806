// Package forebay is a job queue that lives inside your program: push jobs, register handlers, and get retries with
// backoff, deadlines, priorities, bounded concurrency, results and a clean stop, without a broker beside you.
//
//	d, err := forebay.Open("sqlite:/var/lib/app/jobs.db")
//	if err != nil {
//		return err
//	}
//	defer d.Close()
//	err = forebay.HandleTyped(d, "mail", func(ctx context.Context, job *forebay.Job, mail Mail) error {
//		return send(ctx, mail)
//	}, forebay.MaxAttempts(5), forebay.Timeout(30*time.Second))
//	if err != nil {
//		return err
//	}
//	go func() {
//		_, err := d.Push(ctx, forebay.JSON("mail", Mail{To: "ada@example.com"}))
//		// ...
//	}()
//	return d.Run(ctx) // until ctx ends; then running jobs may end, too
//
// # What there is
//
// [Open] opens a [Dispatcher]: "memory:" in this process, "sqlite:" on a file, which several processes may share.
// [Dispatcher.Push] and [Dispatcher.PushMany] push a [JobSpec], which [JSON] makes in a line. [Dispatcher.Handle],
// [HandleTyped] and [HandleResult] register handlers, and [Dispatcher.Run] runs them. [Dispatcher.Wait] and
// [WaitResult] wait for what became of a job. [Dispatcher.Jobs] lists jobs, and the other methods look at jobs and
// queues and change them.
//
// What a handler returns decides: nil is done, an error is a failed attempt, and [Fatal], [RetryAfter], [Snooze],
// [RateLimited] and [Cancel] say more. Its context is cancelled when nothing is to be had from the attempt any more,
// and [context.Cause] tells why: [ErrCancelled], [ErrTimedOut], [ErrLeaseLost] or [ErrStopped].
//
// Errors of this package are an [*Error]; ask with [errors.Is] for ErrFull, ErrClosed, ErrNotFound and so on.
//
// Package forebaytest has what tests need: a dispatcher whose clock the test moves.
//
// # How it is built
//
// Everything that decides is in a library written in Rust, which this package calls through cgo: libforebay, found by
// pkg-config, or, with the build tag forebay_static, an archive inside the module. C never calls Go. Whoever waits,
// for jobs or for their ends, waits for a descriptor through the poller of the runtime, and so takes no thread.
// Answers for jobs that have ended and requests for new ones travel together, many in one call.
//
// docs/go.md is the guide; docs/configuration.md has every option by its name.
package forebay
