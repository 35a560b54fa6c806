"""What happens to values when they must leave the process."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]

VALUES: list[Any] = [
    None,
    True,
    1.5,
    9_007_199_254_740_993,
    2**200,
    -0.0,
    1e-320,
    "",
    "ünï \u2028 \U0001f600 \x00",
    [],
    {"a": [1, {"b": None}], "": "", "z": 1, "y": 2},
    b"",
    b"\x00\xff not text",
    b'{"looks": "like json"}',
    b"x" * 100_000,
]


def handlers(d: Dispatcher, seen: list[Any]) -> None:
    d.handler(kind="value")(seen.append)
    d.handler(kind="call")(lambda *args, **kwargs: seen.append((args, kwargs)))


def test_values_come_back_from_a_dump_as_they_went(opened: Opened, tmp_path: Path) -> None:
    first, second = opened(), opened(concurrency=1)
    for value in VALUES:
        first.push("value", value)
    assert first.dump(tmp_path / "dump") == len(VALUES)
    assert second.restore(str(tmp_path / "dump")) == len(VALUES)
    assert second.restore(tmp_path / "dump") == 0, "a second time adds nothing"
    seen: list[Any] = []
    handlers(second, seen)
    second.start()
    second.drain(LIMIT)
    assert seen == VALUES
    assert [type(v) for v in seen] == [type(v) for v in VALUES]
    assert list(seen[10]) == ["a", "", "z", "y"], "in their order"
    assert math.copysign(1, seen[5]) == -1


def test_a_call_comes_back_as_a_call(opened: Opened, tmp_path: Path) -> None:
    first = opened(dump_file=tmp_path / "dump")
    call = first.handler(kind="call")(lambda *args, **kwargs: None)
    call.push()
    call.push(1, "two", three=[3], vier=None)
    call.options(key="k", queue="other", priority=5, headers={"trace": "1"}).push({"a": 1})
    first.stop(0)
    lines = [json.loads(line) for line in (tmp_path / "dump").read_text().splitlines()]
    types = {line["content_type"] for line in lines if "content_type" in line}
    assert types == {"application/vnd.forebay.call+json"}

    seen: list[Any] = []
    with Dispatcher(dump_file=tmp_path / "dump", concurrency=1) as d:
        [job] = d.list(queue="other").jobs
        assert (job.key, job.priority, job.headers) == ("k", 5, {"trace": "1"})
        assert job.payload == {"args": [{"a": 1}], "kwargs": {}}
        handlers(d, seen)
        d.drain(LIMIT)
    assert sorted(seen, key=repr) == sorted(
        [((), {}), ((1, "two"), {"three": [3], "vier": None}), (({"a": 1},), {})], key=repr
    )


class Thing:
    pass


loop: list[Any] = []
loop.append(loop)
UNENCODABLE: list[tuple[Any, str]] = [
    (Thing(), "$: a Thing cannot be written as JSON"),
    ({"user": {"socket": Thing()}}, "$.user.socket: a Thing cannot"),
    ([1, (2, {3})], r"$[1][1]: a set cannot"),
    ({"x": math.nan}, "$.x: nan cannot"),
    ([math.inf], "$[0]: inf cannot"),
    ({(1, 2): 3}, "$: a key of type tuple cannot"),
    (["\ud800"], "$[0]: the text has a lone surrogate"),
    (bytearray(b"x"), "$: a bytearray cannot"),
    ([b"x"], "$[0]: a bytes cannot"),
    (datetime.now(UTC), "$: a datetime cannot"),
    (loop, "the value contains itself"),
]


@pytest.mark.parametrize(("value", "text"), UNENCODABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_what_cannot_be_written_is_named(opened: Opened, tmp_path: Path, value: Any, text: str) -> None:
    free, kept = opened(), opened(dump_file=tmp_path / "kept")
    free.push("value", value)
    with pytest.raises(forebay.EncodeError) as caught:
        free.dump(tmp_path / "dump")
    assert text in str(caught.value)
    assert not (tmp_path / "dump").exists()
    with pytest.raises(forebay.EncodeError) as caught:
        kept.push("value", value)
    assert text in str(caught.value)
    with pytest.raises(forebay.EncodeError):
        kept.handler(kind="call")(print).push(value)
    assert kept.len() == 0


def test_an_object_of_the_host_names_its_place() -> None:
    with Dispatcher() as d, socket.socket() as s:
        with pytest.raises(forebay.EncodeError, match=r"\$.user.socket: a socket cannot be written as JSON"):
            d.push("value", {"user": {"socket": s}}, key="keyed pushes are compared by their bytes")


def test_keys(d: Dispatcher) -> None:
    first = d.push("mail", {"to": "you"}, key="order-1")
    again = d.push("mail", {"to": "you"}, key="order-1")
    assert (first.created, again.created) == (True, False)
    assert again.id == first.id
    assert again == first
    with pytest.raises(forebay.KeyConflict, match="order-1"):
        d.push("mail", {"to": "me"}, key="order-1")
    assert d.list(key="order-1").total == 1


def test_a_dump_in_intervals_never_needs_the_interpreter(opened: Opened, tmp_path: Path) -> None:
    d = opened(dump_file=tmp_path / "dump", dump_interval="5ms", concurrency=2)
    d.handler(kind="value")(lambda value: None)
    d.start()
    for n in range(2000):
        d.push("value", {"n": n})
    d.drain(LIMIT)
    d.stop()
    assert '"jobs":0' in (tmp_path / "dump").read_text()


def test_damaged_and_busy_dumps(opened: Opened, tmp_path: Path) -> None:
    file = tmp_path / "dump"
    holder = opened(dump_file=file)
    with pytest.raises(forebay.AlreadyOpen, match="in use"):
        Dispatcher(dump_file=file)
    holder.push("value", 1)
    holder.stop()
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(forebay.CorruptError, match="damaged"):
        Dispatcher(dump_file=file)
    assert file.read_bytes() == whole[:-9]
    file.write_bytes(b'{"forebay_dump":999}\n')
    with pytest.raises(forebay.FutureFormatError, match="999"):
        Dispatcher(dump_file=file)


def test_octets_from_elsewhere_that_are_not_json_fail_the_attempt(opened: Opened, tmp_path: Path) -> None:
    first, second = opened(), opened()
    first.push("value", {"a": 1})
    first.dump(tmp_path / "dump")
    text = (tmp_path / "dump").read_text()
    assert '{\\"a\\":1}' in text or '"a"' in text
    second.restore(tmp_path / "dump")
    seen: list[Any] = []
    handlers(second, seen)
    second.start()
    second.drain(LIMIT)
    assert seen == [{"a": 1}]
