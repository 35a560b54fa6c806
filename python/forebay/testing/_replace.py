"""A stage in the place of a dispatcher that a program has opened for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from forebay import dispatcher as _dispatcher
from forebay._forebay import Core, oversee, registered, take_after, write_values
from forebay.dispatcher import Dispatcher
from forebay.errors import InvalidError
from forebay.testing._double import ELSEWHERE, Overseer
from forebay.testing._stage import Stage

if TYPE_CHECKING:
    from datetime import datetime

# What the double answers instead: everything that is public, but for what registers handlers, which the
# program's own dispatcher is to have after the test as well.
_ANSWERED = {name for name in dir(Dispatcher) if not name.startswith("_")} - {
    "handler",
    "register",
    "declare",
}


@contextmanager
def replace(
    dispatcher: Dispatcher,
    *,
    inline: bool = False,
    seed: int = 0,
    start: datetime | None = None,
    **options: Any,
) -> Iterator[Stage]:
    """Puts a stage in the place of a dispatcher for the time of a `with` block.

    Whoever uses the dispatcher or one of its handlers meanwhile, in any thread, uses the stage: what is
    pushed waits there, `d.get`, `d.list`, `d.stats` and all the others ask there, `d.start()` and `d.stop()`
    do nothing. The dispatcher itself, its file and its threads are left alone, and it is as it was after the
    block. Handlers that are registered in the block, as when a module is first imported there, stay.

    The stage has the handlers of the dispatcher, the options of it, of its kinds and of its queues, and its
    hooks. If its jobs go into a file, those on the stage are written and read as they would be there, so that
    what cannot be written is found in the test.

    Args:
        dispatcher: Whose place it takes.
        inline: Whether jobs run at once, before their push returns.
        seed: What jitter and sampling begin with.
        start: Where the clock stands; now, if left out.
        **options: Options of a dispatcher that are to be others than the program's.

    Raises:
        InvalidError: It is replaced already.
    """
    if isinstance(dispatcher, _Replaced):
        raise InvalidError("the dispatcher is replaced already; end the other replace() first")
    with (
        Stage(dispatcher, inline=inline, seed=seed, start=start, **options) as stage,
        _in_place(dispatcher, stage.dispatcher, Overseer(stage, stage.dispatcher)),
    ):
        yield stage


@contextmanager
def stand_in(dispatcher: Dispatcher, double: Dispatcher) -> Iterator[None]:
    """Puts another dispatcher, which is to have its handlers, in the place of one."""
    take_after(double, dispatcher)
    for *_, is_async, interrupt in registered(double).values():
        double._staff(sync=not is_async, is_async=is_async, interrupt=interrupt)
    with _in_place(dispatcher, double, Overseer(None, double)):
        yield


@contextmanager
def _in_place(dispatcher: Dispatcher, double: Dispatcher, overseer: Overseer) -> Iterator[None]:
    former = type(dispatcher)
    # By its class, as everybody holds the object.
    sorts: list[dict[str, bool]] = []
    members = {"__slots__": (), "_double": double, "_sorts": sorts}
    dispatcher.__class__ = type(former.__name__, (_Replaced, former), members)
    oversee(dispatcher, overseer)
    try:
        yield
    finally:
        oversee(dispatcher, None)
        dispatcher.__class__ = former
        for sort in sorts:
            dispatcher._staff(**sort)


class _Replaced:
    """The overrides of a dispatcher that is replaced; the class of each has its double."""

    __slots__ = ()
    _double: Any
    _sorts: list[dict[str, bool]]

    def __getattribute__(self, name: str) -> Any:
        if name in _ANSWERED:
            return getattr(type(self)._double, name)
        return super().__getattribute__(name)

    def register(self, function: Any, kind: str, **options: Any) -> Any:
        """Registers a handler here and on the stage."""
        made = super().register(function, kind, **options)  # type: ignore[misc]
        Core.register(type(self)._double, function, kind, **options)
        return made

    def _staff(self, **sorts: bool) -> None:
        """There are handlers of a sort: for the double now, and for itself afterwards."""
        type(self)._sorts.append(sorts)
        type(self)._double._staff(**sorts)

    def declare(self, kind: str, /, **options: Any) -> None:
        """Says how jobs of a kind are to be run, here and on the stage."""
        super().declare(kind, **options)  # type: ignore[misc]
        Core.declare(type(self)._double, kind, **options)

    def __enter__(self) -> Any:
        type(self)._double.__enter__()
        return self

    def __exit__(self, *how: Any) -> None:
        type(self)._double.__exit__(*how)

    async def __aenter__(self) -> Any:
        await type(self)._double.__aenter__()
        return self

    async def __aexit__(self, *how: Any) -> None:
        await type(self)._double.__aexit__(*how)


@contextmanager
def redirect() -> Iterator[None]:
    """Has every dispatcher that is opened meanwhile opened in memory, whatever its URL says.

    For programs that open a file at their import: import them in this block, and the tests touch no file, nor
    does a second process of tests find it taken. What leaves such a dispatcher is written as it would be for
    the file. Its clock moves by itself, and its threads run if somebody starts them: `replace` it for a test.

    With pytest the option `forebay_in_memory = true` does it for the whole run.
    """
    former = _dispatcher.opened_as
    _dispatcher.opened_as = _in_memory
    try:
        yield
    finally:
        _dispatcher.opened_as = former


def _in_memory(cls: type[Dispatcher], url: Any, options: dict[str, Any]) -> Dispatcher:
    """Opens memory instead."""
    text = str(url)
    if text.startswith("memory:"):
        return Core.__new__(cls, url, **options)
    for name in text.partition("?")[2].split("&"):
        # Options in a URL.
        key, _, value = name.partition("=")
        options = {key: value, **options} if key else options
    kept = {name: value for name, value in options.items() if name not in ELSEWHERE}
    if kept.get("on_full") == "spill":
        del kept["on_full"]
    opened = Core.__new__(cls, "memory:", **kept)
    write_values(opened)
    return opened
