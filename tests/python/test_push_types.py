"""Push options of wrong types: the error names the option."""

from __future__ import annotations

from typing import Any

import pytest
from forebay import Dispatcher, InvalidError

WRONG: list[tuple[str, Any, str]] = [
    ("key", 7, "key is a int; give text"),
    ("queue", b"mail", "queue is a bytes; give text"),
    ("concurrency_key", 7, "concurrency_key is a int; give text"),
    ("retry", 3, "retry is a int; give text"),
    ("durability", True, "durability is a bool; give text"),
    ("priority", "3", "priority is a str; give a whole number"),
    ("priority", 1.5, "priority is a float; give a whole number"),
    ("headers", [("a", "b")], "headers is a list; give a mapping"),
    ("headers", {"a": 1}, 'the header "a" is a int; give text'),
    ("headers", {1: "a"}, "the name of a header is a int; give text"),
    ("waits_for", "token", "waits_for is a str; give a list"),
    ("waits_for", 7, "waits_for is a int; give a list"),
    ("waits_for", [7], "a token of waits_for is a int; give text"),
]


@pytest.mark.parametrize(("name", "value", "text"), WRONG)
def test_an_option_of_a_wrong_type_is_named(name: str, value: Any, text: str) -> None:
    with Dispatcher() as d, pytest.raises(TypeError, match=text):
        d.push("work", **{name: value})


@pytest.mark.parametrize("priority", [128, -129, 2**70, -(2**70)])
def test_a_priority_out_of_range_tells_the_range(priority: int) -> None:
    text = f"priority is {priority}; it must be from -128 to 127"
    with Dispatcher() as d, pytest.raises(InvalidError, match=text):
        d.push("work", priority=priority)
