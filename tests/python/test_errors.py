"""Every kind of error has a class, and every exception of a handler an outcome."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, _forebay, dispatcher, errors

from scripts import REPEATS, always


def test_the_table_is_complete_both_ways() -> None:
    kinds = {code: name for code, name, _, _ in _forebay.error_kinds()}
    assert set(kinds) == set(errors.BY_CODE)
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.ForebayError)}
    assert classes == {*errors.BY_CODE.values(), errors.ForebayError}
    for code, cls in errors.BY_CODE.items():
        assert cls.code == code
        assert getattr(forebay, cls.__name__) is cls
        assert cls.__name__ in forebay.__all__
        assert str(cls("text")) == "text"


def test_classes_fit_into_pythons_own() -> None:
    assert issubclass(forebay.WaitTimeout, TimeoutError)
    assert issubclass(forebay.InvalidError, ValueError)
    assert issubclass(forebay.NotFoundError, LookupError)
    assert issubclass(forebay.StorageError, OSError)
    assert issubclass(forebay.JobCancelled, forebay.JobFailed)


def test_everything_exported_is_documented() -> None:
    for name in forebay.__all__:
        assert hasattr(forebay, name)
        assert getattr(forebay, name).__doc__, name


def test_a_panic_is_an_internal_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(forebay.InternalError, match="a defect of Forebay: provoked"):
        _forebay.provoke_panic()
    assert "provoked" in capfd.readouterr().err


def test_a_failed_job_survives_pickling(d: Dispatcher) -> None:
    d.handler(kind="bad", max_attempts=1)(lambda: 1 / 0)
    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        d.handler(kind="bad2", max_attempts=1)(lambda: 1 / 0).push().result(LIMIT)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.kind, copy.attempts, str(copy)) == ("error", 1, str(caught.value))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("has a lambda")
        self.lambda_ = lambda: None


class Odd(BaseException):
    pass


def deep(n: int = 5000) -> NoReturn:
    deep(n + 1)
    raise AssertionError


def chained() -> NoReturn:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def handler() -> NoReturn:
        raise error

    return handler


class Unmade(Exception):
    def __init__(self, needed: object) -> None:
        """Raised as a class, it cannot be made."""


def unmade() -> NoReturn:
    raise Unmade  # type: ignore[call-arg]


class Unreadable(Exception):
    """What is asked of it for the history raises what nobody catches."""

    def __str__(self) -> str:
        raise SystemExit("from __str__")

    __repr__ = __str__


def tall() -> NoReturn:
    """A traceback of a megabyte: its lines are long, and there are many."""
    name = "f" * 2000
    source = f"def {name}(n):\n    if n: {name}(n - 1)\n    raise ValueError('tall')"
    scope: dict[str, Callable[[int], NoReturn]] = {}
    exec(compile(source, "x" * 2000, "exec"), scope)
    scope[name](300)
    raise AssertionError


def circular() -> NoReturn:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def unfounded() -> NoReturn:
    """Notes and attributes that are not what they should be."""
    error = ValueError("odd")
    error.__notes__ = 3  # type: ignore[assignment]
    raise error


def group() -> NoReturn:
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [KeyError("two")])])


def base_group() -> NoReturn:
    raise BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("one")])


ERRORS = {
    "no memory": (raises(MemoryError("none left")), "error", "MemoryError: none left\n"),
    "cancelled by asyncio": (raises(asyncio.CancelledError()), "panic", "CancelledError\n"),
    "a group": (group, "error", "ExceptionGroup: several (2 sub-exceptions)\n"),
    "a group of what leaves": (base_group, "panic", "BaseExceptionGroup: several (2 sub-exceptions)\n"),
    "one that cannot be made": (unmade, "error", "TypeError: "),
    "one whose text exits": (
        raises(Unreadable()),
        "error",
        "Unreadable (its text cannot be had: __str__ raised SystemExit)",
    ),
    "a traceback of a megabyte": (tall, "error", "ValueError: tall\n"),
    "one that is its own cause": (circular, "error", "ValueError: first\nTraceback"),
    "bad notes": (unfounded, "error", "ValueError: odd\n"),
    "an exception": (raises(ValueError("bad")), "error", "ValueError: bad\n"),
    "an odd one": (raises(Odd("odd")), "panic", "Odd: odd\n"),
    "stop iteration": (raises(StopIteration(1)), "error", "StopIteration: 1\n"),
    "generator exit": (raises(GeneratorExit()), "panic", "GeneratorExit\n"),
    "unprintable": (
        raises(Unprintable()),
        "error",
        "Unprintable (its text cannot be had: __str__ raised RuntimeError)",
    ),
    "unpicklable": (raises(Unpicklable()), "error", "Unpicklable: has a lambda\n"),
    "a megabyte": (raises(ValueError("x" * 1_000_000)), "error", "ValueError: xxx"),
    "deep": (deep, "error", "RecursionError: maximum"),
    "chained": (chained, "error", "ValueError: second\nTraceback"),
    "surrogates": (raises(ValueError("\ud800")), "error", "ValueError: "),
    "cancelled by whim": (raises(forebay.JobCancelled("whim")), "error", "JobCancelled: whim\n"),
    "fatal": (raises(forebay.Fatal("give up")), "fatal", "give up"),
    "a bad retry": (raises(forebay.Retry("soon")), "error", "InvalidError: after: "),
    "a bad snooze": (raises(forebay.Snooze(None)), "error", "TypeError: after is a NoneType"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_exception_fails_the_attempt(d: Dispatcher, name: str) -> None:
    function, kind, text = ERRORS[name]
    handler: forebay.Handler[[], object] = d.handler(kind="bad", max_attempts=1)(function)
    after = d.handler(kind="good")(lambda: "fine")
    d.start(threads=1)
    with pytest.raises(forebay.JobFailed) as caught:
        handler.push().result(LIMIT)
    assert caught.value.kind == kind
    assert caught.value.message.startswith(text)
    assert len(caught.value.message) < 16 * 1024
    assert caught.value.attempts == 1
    assert after.push().result(LIMIT) == "fine", "the worker goes on"


@pytest.mark.parametrize("name", ERRORS)
def test_an_exception_fails_the_attempt_of_an_async_handler(d: Dispatcher, name: str) -> None:
    """As of any other, but that a coroutine cannot raise StopIteration."""
    function, kind, text = ERRORS[name]

    async def bad() -> None:
        await asyncio.sleep(0)
        function()

    if name == "stop iteration":
        kind, text = "error", "RuntimeError: coroutine raised StopIteration"
    if name == "cancelled by asyncio":
        # What was cancelled in it and nobody has asked for is a failure like any other.
        kind, text = "error", ""
    handler = d.handler(kind="bad", max_attempts=1)(bad)

    async def good() -> str:
        return "fine"

    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        handler.push().result(LIMIT)
    assert caught.value.kind == kind
    assert caught.value.message.startswith(text)
    assert len(caught.value.message) < 16 * 1024
    assert d.handler(kind="good")(good).push().result(LIMIT) == "fine", "the loop goes on"


def test_a_chain_names_the_cause(d: Dispatcher) -> None:
    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        d.handler(kind="bad", max_attempts=1)(chained).push().result(LIMIT)
    assert "Caused by KeyError: 'first'\n" in caught.value.message


def test_an_error_holds_no_frames(d: Dispatcher) -> None:
    error = ValueError("kept")
    d.handler(kind="bad", max_attempts=1)(raises(error))
    d.start()
    handle = d.push("bad", None, max_attempts=1)
    d.drain(LIMIT)
    assert handle.status == "failed"
    assert error.__traceback__ is None


def test_retry_snooze_and_fatal(d: Dispatcher) -> None:
    @d.handler(max_attempts=3, pass_job=True)
    def tries(job: forebay.Job) -> int:
        raise forebay.Retry(after=0.001, reason="busy")

    snoozed: list[int] = []

    @d.handler(max_attempts=1, pass_job=True)
    def sleepy(job: forebay.Job) -> int:
        snoozed.append(job.attempt)
        if len(snoozed) < 4:
            raise forebay.Snooze("1ms")
        return job.attempt

    @d.handler(max_attempts=10)
    def hopeless() -> None:
        raise forebay.Fatal("no such account")

    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        tries.push().result(LIMIT)
    assert (caught.value.kind, caught.value.attempts) == ("over_max_attempts", 3)
    assert "busy" in caught.value.message
    assert sleepy.push().result(LIMIT) == 1
    assert snoozed == [1, 1, 1, 1]
    with pytest.raises(forebay.JobFailed) as caught:
        hopeless.push().result(LIMIT)
    assert (caught.value.kind, caught.value.attempts, caught.value.message) == ("fatal", 1, "no such account")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_worker_that_is_told_to_exit_hands_its_job_back(d: Dispatcher, error: BaseException) -> None:
    calls: list[int] = []

    @d.handler(pass_job=True, max_attempts=1)
    def leaves(job: forebay.Job) -> int:
        calls.append(job.attempt)
        if len(calls) == 1:
            raise error
        return job.attempt

    d.start(threads=2)
    assert leaves.push().result(LIMIT) == 1, "an attempt that is handed back does not count"
    assert calls == [1, 1]
    assert not d.stopping


def test_the_last_worker_to_exit_stops_the_dispatcher(d: Dispatcher) -> None:
    @d.handler
    def leaves() -> None:
        sys.exit()

    handle = leaves.push()
    d.run()
    assert d.stopping
    assert handle.status == "queued"


def test_workers_that_exit_at_the_same_time_stop_the_dispatcher(
    opened: Callable[..., Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is still there when the other one looks whether it was the last."""
    gone, asked, work = threading.Event(), threading.Event(), dispatcher._work

    def slow_to_go(*args: Any) -> None:
        work(*args)
        gone.wait(LIMIT)

    monkeypatch.setattr(dispatcher, "_work", slow_to_go)
    d = opened(concurrency=2)

    @d.handler
    def leaves() -> None:
        sys.exit()

    d._on_stop.append(asked.set)
    d.start()
    leaves.push()
    assert asked.wait(LIMIT), "nobody is left, and nobody has heard of it"
    gone.set()


def test_the_import_brings_little() -> None:
    """The time of an import is mostly that of the modules it brings, and these can be counted.

    Without the site module: what this machine brings to every start is not ours.
    """
    code = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import forebay
came = set(sys.modules) - before
slow = {"asyncio", "logging", "inspect", "concurrent.futures", "multiprocessing", "dataclasses"}
print("forebay" in came, len(came) < 60 or sorted(came), sorted(slow & came))
"""
    folder = Path(forebay.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True []\n", "")


def test_subinterpreters_are_refused() -> None:
    """With an ImportError that says so, also beside workers that run; the main one goes on."""
    code = f"""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    attempt = '''if True:
        try:
            import forebay
        except ImportError as error:
            assert "forebay" in str(error) or "subinterpreters" in str(error), error
        else:
            raise AssertionError("it can be imported")
    '''
    with forebay.Dispatcher(concurrency=2) as d:
        work = d.handler(kind="work")(lambda n: n)
        for n in range({REPEATS // 6 + 1}):
            handle = work.push(n)
            other = interpreters.create()
            assert interpreters.run_string(other, attempt) is None
            interpreters.destroy(other)
            assert handle.result(LIMIT) == n
    """
    always(code, rounds=6)


def test_errors_name_the_thing_and_the_mend(d: Dispatcher, tmp_path: Path) -> None:
    for call, cls, text in (
        (lambda: d.push(""), forebay.InvalidError, "kind name is empty"),
        (lambda: d.push("k", priority=300), forebay.InvalidError, "from -128 to 127"),
        (lambda: d.push("k", max_attempts=0), forebay.InvalidError, "at least 1"),
        (lambda: d.push("k", retry="linear"), forebay.InvalidError, "give the pause"),
        (lambda: d.push("k", durability="ssd"), forebay.InvalidError, "durability: .*disk"),  # type: ignore[arg-type]
        (lambda: d.push("k", colour="red"), TypeError, "there are: id, queue"),  # type: ignore[call-arg]
        (lambda: d.push_many([{"payload": 1}]), forebay.InvalidError, "kind"),
        (lambda: d.push_many([3]), TypeError, "give a pair"),  # type: ignore[list-item]
        (lambda: d.get("not-an-id"), forebay.InvalidError, "must be a UUID"),
        (lambda: d.get(3), TypeError, "uuid.UUID"),  # type: ignore[arg-type]
        (lambda: d.get("01a1fa4b-69e4-7694-a8d8-eb128a7ee381"), forebay.NotFoundError, "there is no job"),
        (lambda: d.list(status="done"), forebay.InvalidError, "not a status"),
        (lambda: d.list(limit=0), forebay.InvalidError, "limit is 0"),
        (
            lambda: d.handler(kind="k", concurrency=0)(print),
            forebay.InvalidError,
            "concurrency of a kind is 0",
        ),
        (lambda: d.restore(tmp_path / "none"), forebay.NotFoundError, "cannot open the dump"),
        (lambda: Dispatcher("memory"), forebay.UnsupportedError, "names no engine"),
        (lambda: Dispatcher(3), TypeError, "url is a int"),  # type: ignore[arg-type]
        (lambda: Dispatcher(tmp_path / "a?b"), forebay.InvalidError, "rename the file"),
        (lambda: Dispatcher(durability="ssd"), forebay.InvalidError, "disk"),
        (lambda: Dispatcher(concurency=3), forebay.NotFoundError, "nearest is"),
        (lambda: Dispatcher(concurrency=2.5), forebay.InvalidError, "whole number"),
        (lambda: Dispatcher(timeout=[]), TypeError, "option timeout"),  # type: ignore[arg-type]
    ):
        with pytest.raises(cls, match=text):
            call()
