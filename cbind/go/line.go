package forebay

import "sync/atomic"

// line is the jobs that are to be run, in batches, of which each worker takes the next job by one addition. A slow
// job so holds back none but itself.
type line struct {
	head atomic.Pointer[batch]
	// tail is whoever's who takes turns.
	tail *batch
	// passed counts the batches that are through.
	passed atomic.Int64
}

type batch struct {
	next   atomic.Int64
	leases []lease
	after  atomic.Pointer[batch]
}

func (l *line) init() {
	l.tail = &batch{}
	l.head.Store(l.tail)
}

// add puts a batch at the end. Only who takes turns may.
func (l *line) add(b *batch) {
	l.tail.after.Store(b)
	l.tail = b
}

// take takes the next job, nil if there is none. It says whether that was the last one for now.
func (l *line) take() (next *lease, last bool) {
	for {
		head := l.head.Load()
		count := int64(len(head.leases))
		if head.next.Load() < count {
			if i := head.next.Add(1) - 1; i < count {
				return &head.leases[i], i == count-1 && head.after.Load() == nil
			}
		}
		after := head.after.Load()
		if after == nil {
			return nil, true
		}
		if l.head.CompareAndSwap(head, after) {
			l.passed.Add(1)
		}
	}
}

// more is whether there are jobs in the line.
func (l *line) more() bool {
	head := l.head.Load()
	return head.next.Load() < int64(len(head.leases)) || head.after.Load() != nil
}

// long is whether there are so many jobs in the line that more of them would only wait there.
func (l *line) long() bool {
	head := l.head.Load()
	return head.next.Load() < int64(len(head.leases)) && head.after.Load() != nil
}

// taken is a number that changes when a job is taken.
func (l *line) taken() int64 {
	return l.passed.Load()<<32 + l.head.Load().next.Load()
}

// stack is the jobs that have ended and were not answered for, the last one first.
type stack struct {
	top atomic.Pointer[lease]
}

func (s *stack) empty() bool {
	return s.top.Load() == nil
}

// push puts one on top. It says whether it is the only one.
func (s *stack) push(l *lease) (first bool) {
	for {
		top := s.top.Load()
		l.next = top
		if s.top.CompareAndSwap(top, l) {
			return top == nil
		}
	}
}

// takeAll takes all, in the order in which they ended.
func (s *stack) takeAll() (first *lease) {
	for top := s.top.Swap(nil); top != nil; {
		next := top.next
		top.next = first
		first, top = top, next
	}
	return first
}
