"""Handles and handlers as values of Python: copied, and sent to other processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
from forebay import Dispatcher

d = Dispatcher()


@d.handler
def work(n: int) -> int:
    return n + 1


@pytest.fixture(scope="module", autouse=True)
def stopped() -> Iterator[None]:
    yield
    d.stop()


def test_a_copy_is_the_same() -> None:
    handle = d.push("later", delay=3600)
    assert copy.deepcopy({"of": [handle, work]})["of"] == [handle, work]
    assert copy.copy(handle) is handle
    assert copy.copy(work) is work
    handle.cancel()


def test_a_handler_is_pickled_as_its_function_would_be() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(work, protocol)) is work


def test_a_handler_without_a_place_is_not_pickled() -> None:
    @d.handler
    def inner() -> None: ...

    for handler in (inner, work.options(delay=5), d.handler(kind="nameless")(lambda: None)):
        with pytest.raises(TypeError, match=r"cannot be pickled: it is not what .* is; give it a name"):
            pickle.dumps(handler)
