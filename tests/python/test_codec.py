"""What payloads and results are written with where they leave the process."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, _codec

Opened = Callable[..., Dispatcher]


class Reversed:
    """The text of a value from its end: no more is asked of a codec."""

    content_type = "application/x-reversed"

    def encode(self, value: Any, /) -> bytes:
        return repr(value)[::-1].encode()

    def decode(self, data: bytes, /) -> Any:
        return eval(data.decode()[::-1])


@dataclass
class Order:
    at: datetime
    data: bytes


ORDER = Order(datetime(2026, 1, 1, tzinfo=UTC), b"\xff")
Name = Literal["json", "msgpack", "pickle"]


def content_types(d: Dispatcher, path: Path) -> set[str]:
    d.dump(path)
    import json

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["content_type"] for line in lines if "content_type" in line}


@pytest.mark.parametrize(
    ("codec", "call", "value"),
    [
        ("json", "application/vnd.forebay.call+json", "application/json"),
        ("msgpack", "application/vnd.msgpack;forebay=call", "application/vnd.msgpack"),
        ("pickle", "application/x-python-pickle;forebay=call", "application/x-python-pickle"),
        (Reversed(), "application/x-reversed;forebay=call", "application/x-reversed"),
    ],
    ids=["json", "msgpack", "pickle", "own"],
)
def test_the_content_type_travels_and_says_who_reads(
    opened: Opened, tmp_path: Path, codec: Any, call: str, value: str
) -> None:
    for options in ({"codec": codec}, {"codec": codec, "by_reference": False}):
        writer, reader = opened(**options), opened(codec=codec, concurrency=1)
        writer.handler(kind="task")(lambda *args, **kwargs: None).push(1, [2, None], named="x")
        writer.push("one", {"a": [1.5, True]})
        writer.push("bytes", b"as they are")
        dump = tmp_path / f"dump{len(options)}"
        assert content_types(writer, dump) == {call, value, "application/octet-stream"}
        reader.restore(dump)
        seen: list[Any] = []
        reader.handler(kind="task")(lambda *args, seen=seen, **kwargs: seen.append((args, kwargs)))
        reader.handler(kind="one")(seen.append)
        reader.handler(kind="bytes")(seen.append)
        reader.start()
        reader.drain(LIMIT)
        assert seen == [((1, [2, None]), {"named": "x"}), {"a": [1.5, True]}, b"as they are"]


@pytest.mark.parametrize("codec", ["json", "msgpack", "pickle", Reversed()], ids=str)
def test_a_handler_may_have_a_codec_of_its_own(opened: Opened, tmp_path: Path, codec: Any) -> None:
    d = opened(url=tmp_path / "jobs.db", concurrency=1)

    @d.handler(codec=codec)
    def task(order: Order, *, again: Order | None = None) -> list[Order]:
        return [order, again or order]

    @d.handler
    def plain(n: int) -> int:
        return n

    d.start()
    assert task.push(ORDER, again=ORDER).result(LIMIT) == [ORDER, ORDER]
    assert d.push("task", ORDER).result(LIMIT) == [ORDER, ORDER]
    assert plain.push(3).result(LIMIT) == 3
    d.stop()
    # Whoever has the handler, or says the codec, reads what was written.
    d = opened(url=tmp_path / "jobs.db", codec=codec)
    for job in d.list(kind="task").jobs:
        assert d.get(job.id).status == "succeeded"
    types = {type(job.result) for job in d.list(kind="task").jobs}
    assert types == {list if codec in ("json", "msgpack") else bytes}, (
        "to look at, nothing runs anybody's code"
    )


def test_the_codec_of_a_dispatcher_reads_results_of_handlers_elsewhere(
    opened: Opened, tmp_path: Path
) -> None:
    with_handler = opened(url=f"sqlite:{tmp_path}/jobs.db?shared=true", codec="pickle")
    pusher = opened(url=f"sqlite:{tmp_path}/jobs.db?shared=true", codec="pickle")
    stranger = opened(url=f"sqlite:{tmp_path}/jobs.db?shared=true")
    with_handler.handler(kind="task")(lambda value: {value})
    with_handler.start()
    handle = pusher.push("task", Decimal(1))
    assert handle.result(LIMIT) == {Decimal(1)}
    del stranger


def test_pickles_are_read_only_by_who_says_so(opened: Opened, tmp_path: Path) -> None:
    writer = opened(codec="pickle")
    writer.handler(kind="call")(lambda value: None).push(Bomb())
    writer.push("value", Bomb())
    writer.dump(tmp_path / "dump")
    for options in ({}, {"codec": "msgpack"}):
        reader = opened(max_attempts=5, **options)
        reader.restore(tmp_path / "dump")
        for kind in ("call", "value"):
            reader.handler(kind=kind)(lambda value: None)
        reader.start()
        reader.drain(LIMIT)
        for job in reader.list(status="failed").jobs:
            assert (job.error_kind, job.attempt) == ("fatal", 1)
            assert job.error is not None
            assert 'a pickle, which is read only by who says codec="pickle"' in job.error
            assert isinstance(job.payload, bytes)
        assert reader.list(status="failed").total == 2
    assert exploded == []
    reader = opened()
    reader.restore(tmp_path / "dump")
    reader.handler(kind="call", codec="pickle")(lambda value: None)
    reader.handler(kind="value")(lambda value: None)
    reader.start()
    reader.drain(LIMIT)
    assert exploded == ["call or value"]


exploded: list[str] = []


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


def explode() -> None:
    exploded.append("call or value")


def test_a_call_that_nobody_can_read_fails_and_is_kept(opened: Opened, tmp_path: Path) -> None:
    writer, reader = opened(codec=Reversed()), opened(concurrency=1)
    writer.handler(kind="call")(lambda value: None).push(1)
    writer.push("value", 1)
    writer.dump(tmp_path / "dump")
    reader.restore(tmp_path / "dump")
    seen: list[Any] = []
    reader.handler(kind="call")(seen.append)
    reader.handler(kind="value")(seen.append)
    reader.start()
    reader.drain(LIMIT)
    assert seen == [b"1"], "a value is then bytes"
    [job] = reader.list(status="failed").jobs
    why = "it is 'application/x-reversed', for which neither handler nor dispatcher has a codec"
    assert job.error == f"the job cannot be read: {why}"
    reader.handler(kind="call", codec=Reversed())(seen.append)
    reader.retry(job.id).result(LIMIT)
    assert seen == [b"1", 1]


class Broken(Reversed):
    def __init__(self, *, writes: Any = None, reads: Any = None) -> None:
        self._writes, self._reads = writes, reads

    def encode(self, value: Any, /) -> bytes:
        return self._writes() if self._writes else super().encode(value)

    def decode(self, data: bytes, /) -> Any:
        return self._reads()


def test_codecs_that_break_say_so(opened: Opened) -> None:
    d = opened(by_reference=False, max_attempts=3)
    name = "application/x-reversed"
    for writes, text in (
        (lambda: 1 / 0, rf"\$: {name} cannot write the value: ZeroDivisionError: division by zero"),
        (lambda: "text", rf"\$: {name} made a str of the value, not bytes"),
    ):
        with pytest.raises(forebay.EncodeError, match=text):
            d.handler(kind="task", codec=Broken(writes=writes))(print).push(1)
    d.start()
    handle = d.handler(kind="task", codec=Broken(reads=lambda: 1 / 0))(print).push(1)
    with pytest.raises(forebay.JobFailed, match=f"this is not {name}: ZeroDivisionError") as caught:
        handle.result(LIMIT)
    assert (caught.value.kind, caught.value.attempts) == ("fatal", 1)


NOT_CODECS: list[tuple[Any, type[Exception], str]] = [
    (
        "cbor",
        forebay.InvalidError,
        'codec is \'cbor\'; it must be "json", "msgpack", "pickle" or a forebay.Codec',
    ),
    (3, TypeError, "codec is a int; give a name, or an object with content_type, encode and decode"),
    (pickle, TypeError, "codec is a module"),
    (Reversed, TypeError, "codec is Reversed; give a name, or an object"),
    (
        type("C", (Reversed,), {"content_type": "application/json"})(),
        forebay.InvalidError,
        "which others write",
    ),
    (
        type("C", (Reversed,), {"content_type": "cbor"})(),
        forebay.InvalidError,
        'must be as "application/cbor"',
    ),
]


@pytest.mark.parametrize(("codec", "error", "text"), NOT_CODECS, ids=lambda v: repr(v)[:20])
def test_what_is_no_codec_is_refused(d: Dispatcher, codec: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Dispatcher(codec=codec)
    with pytest.raises(error, match=text):
        d.handler(codec=codec)(print)


KEPT: list[Any] = [None, True, -(2**63), 2**64 - 1, 1.5, "é", b"\x00\xff", [1, [2]], {"a": {}}]
MSGPACK: list[tuple[Any, str | None]] = [
    *[(value, None) for value in KEPT],
    ({1: 2, b"k": 3, None: 4, 1.5: 5}, None),
    (2**64, r"\$: a number of more than 64 bits cannot be written as msgpack"),
    ([{"a": -(2**63) - 1}], r"\$\[0\]\.a: a number of more than 64 bits"),
    ({"a": {1}}, r"\$\.a: a set cannot be written as msgpack: annotate the parameter, or convert it"),
    ([len], r"\$\[0\]: a builtin_function_or_method cannot be written as msgpack: convert it"),
    ({(1, 2): 3}, r"\$: a key of type tuple cannot be written as msgpack"),
    (["\ud800"], r"\$\[0\]: the text has a lone surrogate"),
    (datetime.now(UTC), r"\$: a datetime cannot be written as msgpack: annotate"),
]


@pytest.mark.parametrize("library", ["msgpack", "msgspec"])
@pytest.mark.parametrize(("value", "text"), MSGPACK, ids=lambda v: repr(v)[:30])
def test_both_libraries_of_msgpack_write_the_same(
    monkeypatch: pytest.MonkeyPatch, library: str, value: Any, text: str | None
) -> None:
    if library == "msgspec":
        monkeypatch.setitem(sys.modules, "msgpack", None)
    _, write, read, _ = _codec.resolve("msgpack")
    if text is None:
        back = read(write(value))
        assert back == value
        assert repr(back) == repr(value)
        assert math.isnan(read(write(math.nan)))
    else:
        with pytest.raises(forebay.EncodeError, match=text):
            write(value)


@pytest.mark.parametrize("library", ["msgpack", "msgspec"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\xd4\x05x",
        b"\x01\x01",
    ],
)
def test_msgpack_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, library: str, data: bytes) -> None:
    if library == "msgspec":
        monkeypatch.setitem(sys.modules, "msgpack", None)
    _, _, read, _ = _codec.resolve("msgpack")
    with pytest.raises(forebay.DecodeError, match=r"this is (not )?msgpack"):
        read(data)


def test_without_a_library_the_mend_is_named(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, tmp_path: Path
) -> None:
    writer, reader = opened(codec="msgpack"), opened()
    writer.push("value", [1])
    writer.dump(tmp_path / "dump")
    monkeypatch.setitem(sys.modules, "msgpack", None)
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(forebay.InvalidError, match="pip install msgpack, or msgspec"):
        Dispatcher(codec="msgpack")
    reader.restore(tmp_path / "dump")
    reader.handler(kind="value")(print)
    reader.start()
    reader.drain(LIMIT)
    [job] = reader.list(status="failed").jobs
    assert "pip install msgpack" in str(job.error)


def test_values_need_not_travel_by_reference(opened: Opened) -> None:
    d = opened(by_reference=False)
    given: list[int] = []

    @d.handler
    def task(value: list[int]) -> list[int]:
        value.append(1)
        return value

    d.start()
    assert task.push(given).result(LIMIT) == [1]
    assert given == [], "the handler had a copy"
    with pytest.raises(forebay.EncodeError, match="a object cannot"):
        d.push("task", object())
