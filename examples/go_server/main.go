// Command go_server takes orders over HTTP and charges for them behind the request: a push into a file, and a
// handler with retries in front of a bank that has bad days. A deploy, a crash and kill -9 lose no order.
//
//	go_server -url sqlite:orders.db -listen 127.0.0.1:8080 -ledger ledger.txt
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"forebay.dev/forebay"
)

// Order is what a customer sends, and what the job carries.
type Order struct {
	Customer string `json:"customer"`
	Cents    int    `json:"cents"`
}

func main() {
	url := flag.String("url", "sqlite:orders.db", "where the jobs are")
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen; port 0 is any")
	ledger := flag.String("ledger", "ledger.txt", "what the bank writes")
	flag.Parse()
	// From here on SIGTERM ends ctx, and with it all that follows, in order.
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	if err := serve(ctx, *url, *listen, *ledger); err != nil {
		slog.Error("go_server", "error", err)
		os.Exit(1)
	}
}

// serve works until ctx ends.
func serve(ctx context.Context, url, listen, ledger string) error {
	d, err := open(ctx, url)
	if err != nil {
		return err
	}
	// The last of all: what still waits is in the file.
	defer d.Close()
	bank := bank{ledger: ledger}
	err = forebay.HandleTyped(d, "charge", bank.charge,
		forebay.MaxAttempts(20), forebay.Retry("exponential(20ms, cap=1s, jitter=0.2)"))
	if err != nil {
		return err
	}
	socket, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(d), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(socket) }()
	fmt.Println("listening on", socket.Addr())
	// Runs handlers until ctx ends, and returns when those that run then have ended, or their grace is over.
	running := d.Run(ctx)
	// Requests that came before are still answered: pushes are accepted until the dispatcher is closed.
	grace, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	if err := server.Shutdown(grace); err != nil {
		return errors.Join(running, err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(running, err)
	}
	return running
}

// open opens the file. In a deploy the process before may still be finishing its last jobs: the file is its own until
// it has.
func open(ctx context.Context, url string) (*forebay.Dispatcher, error) {
	for {
		d, err := forebay.Open(url, forebay.WithConcurrency(16))
		if !errors.Is(err, forebay.ErrAlreadyOpen) {
			return d, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func routes(d *forebay.Dispatcher) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) { accept(d, w, r) })
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) { show(d, w, r) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { metrics(d, w, r) })
	return mux
}

// accept answers 202 when the order is in the file, and not before. The same Idempotency-Key again makes no second
// order: whoever got no answer may ask again.
func accept(d *forebay.Dispatcher, w http.ResponseWriter, r *http.Request) {
	var order Order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&order); err != nil || order.Cents <= 0 {
		http.Error(w, "an order is {\"customer\": \"...\", \"cents\": 1}", http.StatusBadRequest)
		return
	}
	job := forebay.JSON("charge", order)
	job.Key = r.Header.Get("Idempotency-Key")
	pushed, err := d.Push(r.Context(), job)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintln(w, pushed.ID)
	case errors.Is(err, forebay.ErrFull):
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many orders wait", http.StatusTooManyRequests)
	case errors.Is(err, forebay.ErrConflict):
		http.Error(w, "another order has this Idempotency-Key", http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func show(d *forebay.Dispatcher, w http.ResponseWriter, r *http.Request) {
	id, err := forebay.ParseID(r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	job, err := d.Get(r.Context(), id)
	if errors.Is(err, forebay.ErrNotFound) {
		http.Error(w, "there is no such order", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, job.State)
}

func metrics(d *forebay.Dispatcher, w http.ResponseWriter, r *http.Request) {
	text, err := d.Metrics(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprint(w, text)
}

// bank is what is slow and fails: every job's first attempt, and it takes its time.
type bank struct{ ledger string }

func (b bank) charge(ctx context.Context, job *forebay.Job, order Order) error {
	if job.Attempt == 1 {
		return errors.New("the bank does not answer")
	}
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	file, err := os.OpenFile(b.ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// A crash between this line and the end of the job has it run again: the bank knows orders by their id, and so
	// can tell.
	_, err = fmt.Fprintf(file, "%s %s %d\n", job.ID, order.Customer, order.Cents)
	return errors.Join(err, file.Close())
}
