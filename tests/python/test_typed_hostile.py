"""Values and texts of every kind: what is written is read again, and what is not does no harm."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NamedTuple
from uuid import UUID

import forebay
import hypothesis.strategies as st
import pytest
from forebay import _codec
from forebay._forebay import from_json, to_json
from forebay._typed import Plan, plan
from hypothesis import given, settings

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=40,
)
FAST = settings(max_examples=200, deadline=None)


@FAST
@given(JSON)
def test_any_value_of_json_is_written_as_pythons_module_does_and_read_again(value: Any) -> None:
    text = to_json(value)
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert repr(from_json(text)) == repr(value)


@FAST
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.lists(st.integers(-(2**70), 2**70)))
def test_numbers_are_exact(floats: list[float], ints: list[int]) -> None:
    back = from_json(to_json([floats, ints]))
    assert repr(back) == repr([floats, ints])


@FAST
@given(st.dictionaries(TEXT, st.none()), st.integers(2, 5))
def test_names_are_read_right_however_often_they_come(names: dict[str, None], times: int) -> None:
    assert from_json(to_json([names] * times)) == [names] * times


@FAST
@given(st.binary() | TEXT.map(str.encode) | st.from_regex(rb'[\[\]{}",:0-9eE.+\-nul]*'))
def test_no_text_does_harm(data: bytes) -> None:
    try:
        here = from_json(data)
    except forebay.DecodeError:
        return
    assert repr(here) == repr(json.loads(data))


@FAST
@given(JSON, st.data())
def test_a_text_that_is_cut_or_altered_does_no_harm(value: Any, data: st.DataObject) -> None:
    text = to_json(value)
    cut = text[: data.draw(st.integers(0, len(text)))]
    at = data.draw(st.integers(0, len(text) - 1))
    altered = text[:at] + bytes([data.draw(st.integers(0, 255))]) + text[at + 1 :]
    for hostile in (cut, altered):
        test_no_text_does_harm.hypothesis.inner_test(hostile)  # type: ignore[attr-defined]


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclass(frozen=True)
class Leaf:
    day: date
    price: Decimal
    colour: Colour


@dataclass(kw_only=True)
class Whole:
    id: UUID
    at: datetime
    clock: time
    span: timedelta
    data: bytes
    pair: Pair
    leaf: Leaf | None
    leaves: list[Leaf]
    by_name: dict[str, Leaf]
    by_number: dict[int, date]
    odd: dict[tuple[int, date], bool]
    some: frozenset[date]
    either: Leaf | Pair | str | int | None
    kind: Literal["a", 1, True]
    number: float
    anything: Any
    inner: Whole | None = field(default=None)


LEAVES = st.builds(Leaf, st.dates(), st.decimals(allow_nan=False), st.sampled_from(Colour))
PAIRS = st.builds(Pair, st.integers(), TEXT)


def wholes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Whole]:
    return st.builds(
        Whole,
        id=st.uuids(),
        at=st.datetimes(timezones=st.none() | st.timezones().map(lambda _: forebay_utc)),
        clock=st.times(),
        span=st.timedeltas(),
        data=st.binary(),
        pair=PAIRS,
        leaf=st.none() | LEAVES,
        leaves=st.lists(LEAVES, max_size=3),
        by_name=st.dictionaries(TEXT, LEAVES, max_size=3),
        by_number=st.dictionaries(st.integers(), st.dates(), max_size=3),
        odd=st.dictionaries(st.tuples(st.integers(), st.dates()), st.booleans(), max_size=3),
        some=st.frozensets(st.dates(), max_size=3),
        either=LEAVES | PAIRS | TEXT | st.integers() | st.none(),
        kind=st.sampled_from(["a", 1, True]),
        number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**50), 2**50),
        anything=JSON,
        inner=inner,
    )


forebay_utc = datetime.fromisoformat("2026-01-01T00:00+05:45").tzinfo
VALUES = wholes(st.none() | wholes(st.none()))


def handler(one: Whole, *rest: Whole, named: Whole | None = None) -> Whole:
    raise NotImplementedError


def planned(takes: str) -> Plan:
    found = plan(handler, False, False, takes)
    assert found is not None
    return found


JSON_PLAN, BYTES_PLAN = planned("json"), planned("bytes")


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_any_value_of_a_class_comes_back_as_it_went(value: Whole) -> None:
    assert JSON_PLAN.write_call is not None
    assert JSON_PLAN.read_call is not None
    written = from_json(to_json(JSON_PLAN.write_call((value, value), {"named": value})))
    args, kwargs = JSON_PLAN.read_call(written)
    assert [*args, kwargs["named"]] == [value] * 3
    back = args[0]
    assert [type(getattr(back, name)) for name in ("either", "kind", "leaf", "some")] == [
        type(getattr(value, name)) for name in ("either", "kind", "leaf", "some")
    ]
    assert back.at.utcoffset() == value.at.utcoffset()


@settings(max_examples=60, deadline=None)
@given(VALUES, st.data())
def test_an_altered_object_is_refused_or_read_and_nothing_else(value: Whole, data: st.DataObject) -> None:
    assert JSON_PLAN.write_one is not None
    assert JSON_PLAN.read_one is not None
    written: Any = JSON_PLAN.write_one(value)
    holder: Any = written
    for _ in range(data.draw(st.integers(0, 3))):
        parts = list(holder.values()) if isinstance(holder, dict) else holder
        inner = [part for part in parts if isinstance(part, dict | list) and part]
        if not inner:
            break
        holder = data.draw(st.sampled_from(inner))
    at = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    if data.draw(st.booleans()) and isinstance(holder, dict):
        del holder[at]
    else:
        holder[at] = data.draw(JSON)
    with suppress(forebay.DecodeError):
        JSON_PLAN.read_one(written)


@FAST
@given(JSON)
def test_no_payload_does_harm_to_a_typed_handler(value: Any) -> None:
    for found in (JSON_PLAN, BYTES_PLAN):
        for read in (found.read_call, found.read_one, found.read_result):
            assert read is not None
            with suppress(forebay.DecodeError):
                read(value)


@FAST
@given(st.binary())
def test_no_bytes_do_harm_as_msgpack(data: bytes) -> None:
    _, _, read, _ = _codec.resolve("msgpack")
    with suppress(forebay.DecodeError):
        read(data)


def test_what_is_nested_a_million_times_does_no_harm() -> None:
    for text in (b"[" * 1_000_000, b'{"a":' * 1_000_000, b"[" * 1_000_000 + b"]" * 1_000_000):
        with pytest.raises(forebay.DecodeError, match="this is not JSON"):
            from_json(text)
    assert math.isinf(from_json(b"1e999")), "as Python reads it"
