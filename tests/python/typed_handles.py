"""Not run, but checked by mypy and pyright: the types of waiting for one handle, and for many."""

from typing import assert_type

import forebay
from forebay import AsCompleted, Dispatcher, Handle, Waited

d = Dispatcher()


@d.handler
def count(text: str) -> int:
    return len(text)


@d.handler
def shout(text: str) -> str:
    return text.upper()


counted: Handle[int] = count.push("a")
shouted: Handle[str] = shout.push("a")
many = [count.push("a") for _ in range(3)]

assert_type(forebay.wait(many, timeout="5s", return_when="FIRST_EXCEPTION"), Waited[int])
assert_type(forebay.wait(many).not_done, set[Handle[int]])
assert_type(forebay.as_completed(many), AsCompleted[int])
assert_type([handle.result() for handle in forebay.as_completed(many)], list[int])
forebay.wait(many, return_when="SOMETIME")  # type: ignore[arg-type]


async def main() -> None:
    assert_type(await counted, int)
    assert_type(await shouted.aresult(timeout=5), str)
    assert_type([await handle async for handle in forebay.as_completed(many, 5)], list[int])
    assert_type(await forebay.gather(counted, shouted), tuple[int, str])
    assert_type(await forebay.gather(shouted, counted, shouted, counted), tuple[str, int, str, int])
    assert_type(await forebay.gather(*many), tuple[int, ...])
    assert_type(await forebay.gather(*many, return_exceptions=True), tuple[int | BaseException, ...])
