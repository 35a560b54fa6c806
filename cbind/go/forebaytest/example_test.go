package forebaytest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"forebay.dev/forebay"
	"forebay.dev/forebay/forebaytest"
)

// SignUp is the program under test: it reminds everybody after a day.
func SignUp(d *forebay.Dispatcher, who string) error {
	_, err := d.Push(context.Background(), forebay.JobSpec{Kind: "remind", Payload: []byte(who), Delay: 24 * time.Hour})
	return err
}

func Example() {
	t := &testing.T{} // what a test is given
	d := forebaytest.New(t)
	defer d.Close()
	d.Handle("remind", func(_ context.Context, j *forebay.Job) error {
		fmt.Printf("dear %s\n", j.Payload)
		return nil
	})

	SignUp(d.Dispatcher, "ada")
	forebaytest.RequirePushed(t, d.Dispatcher, "remind", forebaytest.InState(forebay.Scheduled))
	d.RunDue()
	fmt.Println("a day later")
	d.Advance(24 * time.Hour)
	d.RunDue()
	// Output:
	// a day later
	// dear ada
}
