"""What `forebay.Executor` has beyond an executor of the standard library: attempts, limits, order, keys."""

from __future__ import annotations

import concurrent.futures
import gc
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay.executor import Executor, Future

from scripts import Script, run

Pools = Callable[..., Executor]


@pytest.fixture
def pool() -> Iterator[Pools]:
    """Opens executors that are shut down at the end."""
    made: list[Executor] = []

    def pool(*args: Any, **options: Any) -> Executor:
        made.append(Executor(*args, **options))
        return made[-1]

    yield pool
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)


class Flaky:
    """Raises so many times, and then returns how often it was called."""

    def __init__(self, times: int, error: BaseException | type[BaseException] = ValueError) -> None:
        self.calls = 0
        self._times = times
        self._error = error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return self.calls


def test_a_call_that_raises_is_made_again(pool: Pools) -> None:
    executor = pool(2, max_attempts=3, retry="constant(1ms)")
    assert executor.submit(Flaky(2)).result(LIMIT) == 3
    error = ZeroDivisionError("again")
    never = Flaky(9, error)
    assert executor.submit(never).exception(LIMIT) is error
    assert never.calls == 3
    text = "".join(traceback.format_exception(error))
    assert "in __call__" in text
    assert executor.options(max_attempts=1).submit(Flaky(1)).exception(LIMIT).__class__ is ValueError
    assert executor.options(max_attempts=5).submit(Flaky(4)).result(LIMIT) == 5


def test_one_attempt_unless_more_are_asked_for(pool: Pools) -> None:
    once = Flaky(1)
    assert isinstance(pool(1).submit(once).exception(LIMIT), ValueError)
    assert once.calls == 1


def test_what_ends_a_thread_is_not_tried_again(pool: Pools) -> None:
    executor = pool(1, max_attempts=3, retry="none")
    for error in (SystemExit, KeyboardInterrupt, GeneratorExit):
        leaving = Flaky(9, error)
        assert isinstance(executor.submit(leaving).exception(LIMIT), error)
        assert leaving.calls == 1
    fatal = Flaky(9, forebay.Fatal("no use"))
    assert isinstance(executor.submit(fatal).exception(LIMIT), forebay.Fatal)
    assert fatal.calls == 1


def test_a_call_says_when_it_is_made_again(pool: Pools) -> None:
    executor = pool(1, max_attempts=2, retry="constant(1h)")
    assert executor.submit(Flaky(1, forebay.Retry(after=0))).result(LIMIT) == 2
    # These are no attempts.
    assert executor.submit(Flaky(5, forebay.Snooze(0))).result(LIMIT) == 6
    assert executor.submit(Flaky(5, forebay.RateLimited(0))).result(LIMIT) == 6


def test_between_two_attempts_it_can_be_cancelled(pool: Pools) -> None:
    executor = pool(1, max_attempts=2, retry="constant(1h)")
    flaky = Flaky(1)
    future = executor.submit(flaky)
    # The next call is made after it, by the only thread.
    assert executor.submit(pow, 2, 5).result(LIMIT) == 32
    assert (flaky.calls, future.done(), future.running()) == (1, False, False)
    assert future.cancel()
    assert future.cancelled()
    executor.shutdown()
    assert flaky.calls == 1


def test_a_call_that_takes_too_long_is_given_up(pool: Pools, gate: Gate) -> None:
    executor = pool(2, timeout="20ms")
    told: list[Any] = []
    future = executor.submit(gate.enter)
    future.add_done_callback(told.append)
    with pytest.raises(forebay.JobFailed, match="took longer than its timeout") as failed:
        future.result(LIMIT)
    assert failed.value.kind == "timed_out"
    assert executor.options(timeout=LIMIT).submit(pow, 2, 5).result(LIMIT) == 32
    gate.open()
    executor.shutdown()
    assert (told, future.exception(0)) == ([future], failed.value)


def test_a_slow_attempt_is_followed_by_another(pool: Pools, gate: Gate) -> None:
    calls: list[int] = []
    numbers = count()

    def slow_at_first() -> str:
        calls.append(number := next(numbers))
        if number == 0:
            gate.enter()
            return "too late"
        return "in time"

    executor = pool(2, retry="none")
    # More attempts than two: on a busy machine another one may take too long as well.
    future = executor.options(timeout="100ms", max_attempts=100).submit(slow_at_first)
    assert future.result(LIMIT) == "in time"
    made = len(calls)
    assert sorted(calls) == list(range(made))
    assert made >= 2
    gate.open()
    executor.shutdown()
    assert (future.result(), len(calls)) == ("in time", made)


def test_there_is_a_thread_for_what_comes_by_itself(pool: Pools, gate: Gate) -> None:
    """Another attempt is not submitted: nobody would begin a thread for it while the others are busy."""
    flaky = Flaky(1)
    executor = pool(2, max_attempts=2, retry="constant(1ms)")
    again, slow = executor.submit(flaky), executor.submit(gate.enter)
    assert again.result(LIMIT) == 2
    assert len(executor._threads) == 2
    gate.open()
    slow.result(LIMIT)
    delayed = pool(2)
    blocked = delayed.submit(threading.Event().wait, 0)
    later = delayed.options(delay="1ms").submit(pow, 2, 5)
    assert (later.result(LIMIT), len(delayed._threads)) == (32, 2)
    assert blocked.result(LIMIT) is False


def test_a_timeout_may_be_over_at_once(pool: Pools) -> None:
    executor = pool(2, timeout="1us")
    for _ in range(200):
        future = executor.submit(threading.Event().wait, 0.0002)
        assert isinstance(future.exception(LIMIT), forebay.JobFailed | None)


def test_a_deadline_is_for_the_start(pool: Pools, gate: Gate) -> None:
    executor = pool(1)
    slow = executor.submit(gate.enter)
    gate.reached()
    late = executor.options(deadline="10ms").submit(pow, 2, 5)
    with pytest.raises(forebay.JobFailed, match="deadline passed") as failed:
        late.result(LIMIT)
    assert failed.value.kind == "expired"
    gate.open()
    slow.result(LIMIT)


def test_no_more_calls_wait_than_it_may_hold(pool: Pools, gate: Gate) -> None:
    executor = pool(1, capacity=2)
    running = executor.submit(gate.enter)
    gate.reached()
    waiting = [executor.submit(pow, 2, n) for n in range(2)]
    with pytest.raises(forebay.QueueFull, match="2 of 2 jobs"):
        executor.submit(pow, 2, 5)
    with pytest.raises(forebay.QueueFull):
        executor.options(wait="1ms").submit(pow, 2, 5)
    threading.Timer(0.02, gate.open).start()
    assert executor.options(wait=LIMIT).submit(pow, 2, 5).result(LIMIT) == 32
    assert [future.result(LIMIT) for future in (running, *waiting)] == [None, 1, 2]
    # What was refused is not waited for.
    executor.shutdown()


@pytest.mark.parametrize(
    ("policy", "goes"), [("drop_newest", 2), ("drop_oldest", 0), ("drop_lowest", 1), ("block(60s)", None)]
)
def test_who_goes_when_it_is_full(pool: Pools, gate: Gate, policy: str, goes: int | None) -> None:
    executor = pool(1, capacity=2, on_full=policy)
    running = executor.submit(gate.enter)
    gate.reached()
    if goes is None:
        threading.Timer(0.02, gate.open).start()
    priorities = (1, 0, 1)
    waiting = [executor.options(priority=p).submit(pow, 2, n) for n, p in enumerate(priorities)]
    if goes is not None:
        # Who had to go is told at once.
        with pytest.raises(forebay.Shed, match="on_full"):
            waiting[goes].result(0)
    gate.open()
    running.result(LIMIT)
    assert [future.result(LIMIT) for n, future in enumerate(waiting) if n != goes] == [
        2**n for n in range(3) if n != goes
    ]
    executor.shutdown()


def test_the_highest_priority_is_called_first(pool: Pools, gate: Gate) -> None:
    executor = pool(1)
    executor.submit(gate.enter)
    gate.reached()
    calls: list[int] = []
    futures = [executor.options(priority=p).submit(calls.append, p) for p in (0, -5, 7, 3)]
    gate.open()
    concurrent.futures.wait(futures, LIMIT)
    assert calls == [7, 3, 0, -5]


def test_a_key_stands_for_one_call_at_a_time(pool: Pools, gate: Gate) -> None:
    executor = pool(1)
    keyed = executor.options(key="nightly")

    def work() -> str:
        gate.enter()
        return "made"

    first = keyed.submit(work)
    gate.reached()
    assert keyed.submit(work) is first
    with pytest.raises(forebay.KeyConflict):
        keyed.submit(gate.enter)
    gate.open()
    assert first.result(LIMIT) == "made"
    executor.submit(pow, 2, 5).result(LIMIT)
    again = keyed.submit(work)
    assert again is not first
    assert again.result(LIMIT) == "made"
    executor.shutdown()


def test_a_delay_is_waited_for(pool: Pools) -> None:
    executor = pool(1)
    late = executor.options(delay="1h").submit(pow, 2, 5)
    assert executor.submit(pow, 2, 3).result(LIMIT) == 8
    assert (late.done(), late.cancel()) == (False, True)
    soon = executor.options(delay="1ms").submit(pow, 2, 5)
    executor.shutdown()
    assert soon.result(0) == 32


def test_options_are_of_the_same_executor(pool: Pools) -> None:
    executor = pool(1)
    urgent = executor.options(priority=5).options(max_attempts=2)
    assert isinstance(urgent, Executor)
    assert urgent.submit(threading.current_thread).result(LIMIT) is executor.submit(
        threading.current_thread
    ).result(LIMIT)
    assert list(urgent.map(pow, [2, 3], [3, 2])) == [8, 9]
    with pytest.raises(TypeError, match="'colour' is not an option of a call; there are: priority, "):
        executor.options(colour="red")  # type: ignore[call-arg]
    for wrong in ({"priority": 300}, {"max_attempts": 0}, {"timeout": -1}):
        with pytest.raises(ValueError, match=str(*wrong)):
            executor.options(**wrong).submit(pow, 2, 5)  # type: ignore[arg-type]
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        urgent.submit(pow, 2, 5)
    with pytest.raises(ValueError, match="capacity"):
        pool(1, capacity=-1)
    with pytest.raises(RuntimeError, match=r"Executor.__init__\(\) was not called"):
        Executor.__new__(Executor).submit(pow, 2, 5)


def test_map_reads_on_as_results_are_read(pool: Pools) -> None:
    executor = pool(2)
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(10):
            read.append(n)
            yield n

    results = executor.map(lambda n: -n, numbers(), buffersize=3)
    assert read == [0, 1, 2]
    assert (next(results), read) == (0, [0, 1, 2, 3])
    assert (list(results), read) == ([-n for n in range(1, 10)], list(range(10)))
    del read[:]
    chunks = executor.map(lambda n: -n, numbers(), chunksize=2, buffersize=2)
    assert len(read) == 4
    assert list(chunks) == [-n for n in range(10)]
    for wrong in ({"buffersize": 0}, {"chunksize": 0}):
        with pytest.raises(ValueError, match=str(*wrong)):
            executor.map(pow, [1], [1], **wrong)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        executor.map(pow, [1], [1], buffersize="2")  # type: ignore[arg-type]


def test_a_future_costs_the_collector_nothing_unless_it_must(pool: Pools) -> None:
    executor = pool(1)
    small: Future[int] = executor.submit(pow, 2, 5)
    assert small.result(LIMIT) == 32
    assert not gc.is_tracked(small)
    large = executor.submit(list[Any])
    circle = large.result(LIMIT)
    assert gc.is_tracked(large)
    circle.append(large)
    import weakref

    gone = weakref.ref(large)
    del large, circle
    executor.submit(pow, 2, 5).result(LIMIT)
    gc.collect()
    assert gone() is None


def test_a_reader_in_a_call_may_wait_for_another(pool: Pools) -> None:
    executor = pool(2)

    def outer() -> int:
        return executor.submit(pow, 2, 5).result(LIMIT)

    assert executor.submit(outer).result(LIMIT) == 32


def test_python_waits_for_what_was_submitted() -> None:
    script = """
        from forebay.executor import Executor
        executor = Executor(2, max_attempts=3, retry="constant(10ms)")
        ending, calls, lock = threading.Event(), [], threading.Lock()
        def call(n):
            ending.wait()
            with lock:
                calls.append(n)
                made, again = len(calls), n == 7 and calls.count(7) < 3
            if again:
                raise ValueError
            if made == 52:
                say("all")
        for n in range(50):
            executor.submit(call, n)
        {end}
        ending.set()
    """
    for end in ("", "del executor", "executor.shutdown(wait=False)", "forebay.Dispatcher().start()"):
        assert run(script.format(end=end)) == (0, "all\n", "")


def test_nothing_is_accepted_while_python_ends() -> None:
    script = """
        from forebay.executor import Executor
        import atexit
        executor, idle = Executor(1), Executor(1)
        def late():
            for pool in (executor, idle):
                try:
                    pool.submit(pow, 2, 5)
                except RuntimeError as error:
                    say(str(error))
        atexit.register(late)
        executor.submit(pow, 2, 5).result()
    """
    text = "cannot schedule new futures after interpreter shutdown\n"
    assert run(script) == (0, text * 2, "")


def test_ctrl_c_ends_a_wait_for_a_result() -> None:
    script = """
        from forebay.executor import Executor
        go = threading.Event()
        with Executor(1) as executor:
            future = executor.submit(go.wait)
            try:
                say("waiting")
                future.result()
            except KeyboardInterrupt:
                say("interrupted")
            go.set()
        say("made" if future.result() else "not made")
    """
    with Script(script) as process:
        process.expect("waiting")
        process.send(signal.SIGINT)
        process.expect("interrupted")
        process.expect("made")
        assert process.end() == (0, "", "")


def test_in_the_child_of_a_fork_it_is_the_parents() -> None:
    script = """
        from forebay.executor import Executor
        executor = Executor(2)
        executor.submit(pow, 2, 5).result()
        child = os.fork()
        if child == 0:
            try:
                executor.submit(pow, 2, 5)
            except forebay.ForkedError:
                say("forked")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        say(str(executor.submit(pow, 2, 5).result()))
    """
    assert run(script) == (0, "forked\n32\n", "")
