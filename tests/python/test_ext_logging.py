"""The bridge to `logging`, and records that name their job."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher, Fatal, Job, JobFailed, Retry
from forebay.ext.logging import EventLog, JobFilter, current_job, log_events, mark_jobs

from scripts import Script

Opened = Callable[..., Dispatcher]


class Keeper(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.came = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.came.release()

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.came.acquire(timeout=LIMIT), "no record came"


@pytest.fixture
def logger() -> logging.Logger:
    """One that belongs to no other test."""
    logger = logging.Logger("test", logging.DEBUG)
    logger.addHandler(Keeper())
    return logger


@pytest.fixture
def keeper(logger: logging.Logger) -> Keeper:
    (keeper,) = logger.handlers
    assert isinstance(keeper, Keeper)
    return keeper


@pytest.fixture
def logs(opened: Opened, logger: logging.Logger) -> Iterator[Callable[..., EventLog]]:
    """Makes logs that are closed at the end."""
    made: list[EventLog] = []

    def logs(d: Dispatcher, **options: int) -> EventLog:
        made.append(log_events(d, logger, **options))
        return made[-1]

    yield logs
    for log in made:
        assert log.close(LIMIT)


def fields(record: logging.LogRecord) -> tuple[object, ...]:
    names = ("levelname", "event", "job_kind", "job_queue", "job_attempt", "failure")
    return tuple(getattr(record, name) for name in names)


def test_events_become_records(opened: Opened, logs: Callable[..., EventLog], keeper: Keeper) -> None:
    d = opened(max_attempts=2)
    log = logs(d, level=logging.DEBUG)

    @d.handler
    def f() -> None:
        raise ValueError("no such thing")

    handle = f.options(queue="mails").push()
    with d:
        with pytest.raises(JobFailed):
            handle.result(LIMIT)
    assert log.close(LIMIT)
    assert [fields(record) for record in keeper.records] == [
        ("DEBUG", "pushed", "f", "mails", 0, None),
        ("DEBUG", "started", "f", "mails", 1, None),
        ("WARNING", "retried", "f", "mails", 1, "error"),
        ("DEBUG", "started", "f", "mails", 2, None),
        ("ERROR", "failed", "f", "mails", 2, "error"),
        ("INFO", "stopped", None, None, None, None),
    ]
    failed = keeper.records[4]
    assert failed.__dict__["job_id"] == str(handle.id)
    assert failed.getMessage().startswith(f"job {handle.id} (f in mails) ")
    assert "no such thing" in failed.getMessage()
    assert failed.__dict__["took"] >= 0
    assert (failed.name, failed.threadName) == ("test", "forebay-log")
    ended = d.get(handle).finished_at
    assert ended is not None
    assert abs(failed.created - ended.timestamp()) < 1
    assert keeper.records[5].__dict__["job_id"] is None


def test_a_level_is_all_that_is_made(
    opened: Opened, logs: Callable[..., EventLog], keeper: Keeper, logger: logging.Logger
) -> None:
    d = opened()
    logs(d, level=logging.WARNING)
    logger.setLevel(logging.ERROR)

    @d.handler
    def f(attempt: int) -> None:
        raise Fatal("no")

    with d:
        f.push(1)
        d.drain(LIMIT)
        keeper.wait()
    assert [record.levelname for record in keeper.records] == ["ERROR"]


def test_what_cannot_be_logged_in_time_is_counted(
    opened: Opened, logs: Callable[..., EventLog], keeper: Keeper, gate: Gate
) -> None:
    d = opened()
    log = logs(d, level=logging.DEBUG, capacity=10)

    @d.handler
    def f() -> None: ...

    def hangs(record: logging.LogRecord) -> bool:
        if not keeper.records:
            gate.enter()
        return True

    keeper.addFilter(hangs)
    f.push()
    gate.reached()
    # While a handler of `logging` hangs, nobody who pushes or works waits for it.
    with d:
        for _ in range(999):
            f.push()
        d.drain(LIMIT)
        dropped = log.dropped
        assert dropped == 3000 - 1 - 10
        gate.open()
        assert log.close(LIMIT)
    (told,) = (record for record in keeper.records if record.__dict__["event"] is None)
    assert len(keeper.records) == 1 + 10 + 1
    assert told.levelname == "WARNING"
    assert told.getMessage() == f"{dropped} events were dropped: more than 10 waited to be logged"


def test_a_handler_of_logging_that_fails_is_not_the_end(
    opened: Opened, logs: Callable[..., EventLog], keeper: Keeper, logger: logging.Logger
) -> None:
    def odd(record: logging.LogRecord) -> bool:
        if getattr(record, "job_kind", None) == "bad":
            raise ZeroDivisionError
        return True

    logger.addFilter(odd)
    d = opened()
    logs(d, level=logging.DEBUG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        d.push("bad")
        d.push("good")
        keeper.wait()
    assert [record.__dict__["job_kind"] for record in keeper.records] == ["good"]


def test_a_handler_of_logging_may_push(opened: Opened, logger: logging.Logger) -> None:
    """What it pushes is told as well, so it must not push for what it pushed."""
    d = opened()
    done = threading.Event()

    class Pusher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.__dict__["job_kind"] == "k":
                d.push("alarm")
            else:
                done.set()

    logger.addHandler(Pusher())
    with log_events(d, logger, level=logging.DEBUG) as log:
        d.push("k")
        assert done.wait(LIMIT)
    assert log.dropped == 0
    assert d.len() == 2


def test_records_name_their_job(opened: Opened, logger: logging.Logger, keeper: Keeper) -> None:
    keeper.addFilter(JobFilter())
    d = opened(concurrency=2)
    mark_jobs(d)
    left: list[Job | None] = []
    d.add_hooks(after=lambda job, outcome, seconds: left.append(current_job()))

    @d.handler
    def outer(depth: int) -> str:
        job = current_job()
        assert job is not None
        logger.info("in %s", depth)
        if depth == 1 and job.attempt == 1:
            raise Retry
        return str(job.id)

    logger.info("before")
    with d:
        pushed = [outer.push(depth) for depth in range(2)]
        ids = [handle.result(LIMIT) for handle in pushed]
        d.drain(LIMIT)
    logger.info("after")
    assert left == [None] * 3
    by_message: dict[str, list[dict[str, object]]] = {}
    for record in keeper.records:
        by_message.setdefault(record.getMessage(), []).append(record.__dict__)
    for message in ("before", "after"):
        assert [(r["job_id"], r["job_kind"], r["job_attempt"]) for r in by_message[message]] == [(None,) * 3]
    (first,) = by_message["in 0"]
    assert (first["job_id"], first["job_kind"], first["job_queue"]) == (ids[0], "outer", "default")
    assert [(r["job_id"], r["job_attempt"]) for r in by_message["in 1"]] == [(ids[1], 1), (ids[1], 2)]


def test_records_of_coroutines_name_theirs(opened: Opened, logger: logging.Logger, keeper: Keeper) -> None:
    keeper.addFilter(JobFilter())
    d = opened(concurrency=8)
    mark_jobs(d)

    @d.handler
    async def f(n: int) -> str:
        await asyncio.sleep(0)
        logger.info("%s", n)
        job = current_job()
        assert job is not None
        return str(job.id)

    async def main() -> None:
        async with d:
            ids = [await handle for handle in [f.push(n) for n in range(8)]]
        named = {record.getMessage(): record.__dict__["job_id"] for record in keeper.records}
        assert named == {str(n): id for n, id in enumerate(ids)}
        assert current_job() is None

    asyncio.run(main())


def test_the_end_of_the_program_logs_the_rest() -> None:
    program = """
    import logging
    from forebay.ext.logging import log_events
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.DEBUG, stream=sys.stdout)
    d = forebay.Dispatcher()
    log_events(d, level=logging.DEBUG)
    for n in range(500):
        d.push("k")
    """
    with Script(program) as script:
        code, out, err = script.end()
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) == 501
    assert lines[-1].startswith("INFO the dispatcher stops")


def test_threads_and_a_held_lock_do_not_meet(opened: Opened, logger: logging.Logger, gate: Gate) -> None:
    """Whoever pushes with the lock of a handler of `logging` held waits for room, not for the log."""
    d = opened(capacity=4, on_full="block(60s)", concurrency=2)
    lock = threading.RLock()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with lock:
                d.stats()

    logger.addHandler(Slow())

    @d.handler
    def f() -> None: ...

    def pusher() -> None:
        for _ in range(100):
            with lock:
                f.push()

    with d, log_events(d, logger, level=logging.DEBUG):
        threads = [threading.Thread(target=pusher) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in threads)
        d.drain(LIMIT)
    assert d.stats()["queues"]["default"]["succeeded"] == 400
