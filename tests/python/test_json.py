"""JSON as the native half writes and reads it, against Python's own `json` module."""

from __future__ import annotations

import enum
import json
import math
import random
import string
import sys
import threading
from collections import OrderedDict, namedtuple
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay._forebay import from_json, to_json

Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 3


class Name(str):
    pass


class Sum(dict[str, int]):
    pass


def expected(value: Any) -> bytes:
    """What the module promises: strict, compact, in UTF-8."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"k": value} if kind == "dict" else [value]
    return value


moved = OrderedDict(a=1, b=2)
moved.move_to_end("a")
VALUES: list[Any] = [
    *[None, True, False, 0, -1, 1, 2**31, -(2**63), 2**63 - 1, 2**63, -(2**63) - 1, 10**40, -(10**40)],
    *[
        0.0,
        -0.0,
        1.0,
        1e16,
        1e15,
        1.5e300,
        5e-324,
        1e-7,
        0.1,
        1 / 3,
        math.pi,
        123456789.125,
        sys.float_info.max,
    ],
    *[
        "",
        "plain",
        '"\\/\b\f\n\r\t\x00\x1f\x7f',
        "é\u2028\U0001f600",
        "x" * 15 + '"',
        "x" * 16 + "\n" + "y" * 40,
    ],
    *[[], {}, (), [[]], {"": {}}, (1, (2,)), {"a": [1, {"b": None}], "z": 1, "y": 2}],
    *[{1: 2, 1.5: 3, None: 4, False: 5}, {"\ud7ff\ue000": 1}, {'"': "\\"}],
    *[Colour.RED, Name("named"), Point(1, [2]), moved, Sum(a=1), {"in": [Colour.RED, Name("n"), moved]}],
    *[nested(99), nested(100), nested(101), nested(500), nested(101, "dict")],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:40])
def test_text_is_that_of_the_json_module(value: Any) -> None:
    text = to_json(value)
    assert text == expected(value)
    back = from_json(text)
    assert back == json.loads(text)
    assert repr(back) == repr(json.loads(text)), "with the types, and the sign of zero"


TEXTS = [
    *[
        b" [ 1 , 2 ] ",
        b'\t{ "a" : \r\n null }\n',
        b"-0",
        b"-0.0",
        b"1E5",
        b"1e+5",
        b"1.5e-3",
        b"1e999",
        b"-1e999",
    ],
    *[b'"\\u00e9\\ud83d\\ude00\\/"', b'"\\ud800"', b'"\\udc00\\ud800"'],
    *[b'"\\ud800\\u0041"', b'"\\ud83dx"', b'{"a":1,"a":2}', b"9" * 40, b"\xef\xbb\xbf[1]", b'"\xed\xa0\x80"'],
    *['"\u00e9"'.encode("utf-16"), b"true", b'"a\\nb\\"c\\\\"', b"[" * 300 + b"]" * 300],
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: repr(t)[:40])
def test_texts_are_read_as_the_json_module_reads_them(text: bytes) -> None:
    assert repr(from_json(text)) == repr(json.loads(text))


WRONG = [
    *[
        b"",
        b" ",
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[1 2]",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,}',
        b"{1:2}",
    ],
    *[
        b"01",
        b"-",
        b"1.",
        b".5",
        b"1e",
        b"1e+",
        b"+1",
        b"0x1",
        b"tru",
        b"nulll",
        b"1 2",
        b'"',
        b'"\\',
        b'"\\x"',
    ],
    *[b'"\\u12"', b'"\\u12g4"', b'"\n"', b'"\x00"', b'"\xff"', b"{a:1}", b"'a'", b"\x00"],
]


@pytest.mark.parametrize("text", WRONG, ids=repr)
def test_texts_that_are_not_json_are_refused_as_there(text: bytes) -> None:
    with pytest.raises(ValueError) as there:  # noqa: PT011
        json.loads(text)
    with pytest.raises(forebay.DecodeError) as here:
        from_json(text)
    assert str(here.value) == f"this is not JSON: {there.value}"


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"[" * 9999, b"9" * 5000])
def test_what_could_not_be_written_again_is_not_read(text: bytes) -> None:
    with pytest.raises(forebay.DecodeError, match="this is not JSON: "):
        from_json(text)


def made(chance: random.Random, depth: int) -> Any:
    """A value of some kind."""
    kind = chance.randrange(9 if depth else 6)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind <= 2:
        return chance.randrange(-(10 ** chance.randrange(1, 25)), 10 ** chance.randrange(1, 25))
    if kind == 3:
        if chance.randrange(2):
            return chance.randrange(2**53) / 2 ** chance.randrange(60)
        return round(chance.uniform(-1, 1) * 10 ** chance.randrange(-300, 300), chance.choice([2, 400]))
    if kind <= 5:
        letters = string.printable + 'é"\\\n\U0001f600\u2029'
        return "".join(chance.choices(letters, k=chance.randrange(40)))
    parts = [made(chance, depth - 1) for _ in range(chance.randrange(5))]
    if kind == 6:
        return tuple(parts)
    return parts if kind == 7 else {str(i) + "é": part for i, part in enumerate(parts)}


def test_random_values_come_back() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(2000):
        value = made(chance, 4)
        text = to_json(value)
        assert text == expected(value), f"seed {seed}"
        assert repr(from_json(text)) == repr(json.loads(text)), f"seed {seed}"


def test_texts_of_all_lengths_with_something_odd_at_every_place() -> None:
    for length in range(35):
        for odd in ("", '"', "\\", "\n", "\x1f", "\x7f", "é", "\U0001f600"):
            for place in range(length if odd else 1):
                text = "abcdefghijklmnopqrstuvwxyzABCDEFGHI"[:length]
                text = text[:place] + odd + text[place + 1 :] if odd else text
                written = to_json([text, {text: text}])
                assert written == expected([text, {text: text}])
                assert from_json(written) == [text, {text: text}]


def test_names_that_are_nearly_the_same_are_not_mixed_up() -> None:
    names = ["n" * length for length in range(40)]
    names += [name[:place] + "x" + name[place + 1 :] for name in names for place in range(len(name))]
    for _ in range(2):
        for name in names:
            assert from_json(to_json({name: 1, f"{name}y": 2})) == {name: 1, f"{name}y": 2}


def test_numbers_of_all_lengths() -> None:
    for length in range(1, 25):
        for digits in ("9" * length, "1" + "0" * (length - 1)):
            for text in (digits, f"-{digits}"):
                assert from_json(text.encode()) == int(text)
                assert to_json(int(text)) == text.encode()
                assert repr(from_json(f"{text}.5".encode())) == repr(float(f"{text}.5"))


def test_what_cannot_be_written_is_named_by_its_path() -> None:
    for value, where in [
        ({"a": [0, 1, 2, {"b": object()}]}, "$.a[3].b: a object"),
        ({"a": (0, {"b": [math.nan]})}, "$.a[1].b[0]: nan"),
        ({"a": {"b": "\udfff"}}, "$.a.b: the text has a lone surrogate"),
        ({"a": {b"k": 1}}, "$.a: a key of type bytes"),
        ([[nested(100_000)]], "nested too deeply"),
    ]:
        with pytest.raises(forebay.EncodeError) as caught:
            to_json(value)
        assert where in str(caught.value)


def test_no_code_of_python_runs_for_plain_values() -> None:
    value = [nested(99), {"a": [1, 2.5, 10**30, None, True, "é\n"], "b": ((), {})}]
    text = to_json(value)
    called: list[str] = []
    sys.setprofile(lambda frame, event, _: called.append(event) if event == "call" else None)
    try:
        from_json(to_json(value))
        counted = len(called)
        json.loads(text)
    finally:
        sys.setprofile(None)
    assert counted == 0
    assert called, "they are counted"


def test_depth_does_not_crash_a_small_stack() -> None:
    seen: list[Any] = []

    def body() -> None:
        for kind in ("list", "dict"):
            value = nested(100, kind)
            seen.append(from_json(to_json(value)) == value)

    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=body)
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join(LIMIT)
    assert seen == [True, True]
