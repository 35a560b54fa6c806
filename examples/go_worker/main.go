// Command go_worker works on a file that it shares with programs in other languages: it counts the words of texts
// that a Python program pushes, and Python reads what came out.
//
//	go_worker 'sqlite:jobs.db?shared=true'
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"forebay.dev/forebay"
)

// Text is the argument that the Python program gives: producer.py pushes {"text": ...} as JSON.
type Text struct {
	Text string `json:"text"`
}

// Count is the result, as Python gets it.
type Count struct {
	Words  int    `json:"words"`
	Worker string `json:"worker"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go_worker URL, for example 'sqlite:jobs.db?shared=true'")
	}
	d, err := forebay.Open(os.Args[1], forebay.WithConcurrency(4))
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	if err := forebay.HandleResult(d, "count_words", countWords); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	fmt.Println("ready")
	if err := d.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func countWords(_ context.Context, _ *forebay.Job, text Text) (Count, error) {
	if text.Text == "" {
		// No other attempt would find more in it.
		return Count{}, forebay.Fatal(fmt.Errorf("there is no text"))
	}
	return Count{Words: len(strings.Fields(text.Text)), Worker: fmt.Sprintf("go %d", os.Getpid())}, nil
}
