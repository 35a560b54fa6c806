"""The dispatcher of a stage: everything a dispatcher is, except that nothing happens by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from forebay._forebay import Core, Handle, oversee, rebound, take_after
from forebay.dispatcher import Dispatcher, StopReport

if TYPE_CHECKING:
    from forebay._types import Delay
    from forebay.testing._stage import Stage

ELSEWHERE = {
    # What only a file has, what only a process of its own has, and the time that stands still.
    *("clock", "control", "dump_file", "dump_interval", "durability", "max_crashes", "resident", "shared"),
    *("sync_done", "write_behind", "lease", "node"),
}
"""The options of a dispatcher that its double does not take over."""


class Rehearsed(Dispatcher):
    """The overrides. The class of a double has these before those of the class that it is the double of."""

    _stage: Stage

    def start(self, threads: int | None = None, *, queues: object = None) -> None:
        """Starts nothing: `Stage.drain` runs jobs."""

    def _staff(self, **_: bool) -> None:
        """Starts nothing."""

    def run(self, threads: int | None = None, **_: object) -> None:
        """Runs what is due, and returns."""
        self._stage.drain()

    async def arun(self, *_: object, **__: object) -> None:
        """Runs what is due, and returns."""
        await self._stage.adrain()

    def request_stop(self) -> None:
        """Stops nothing: the stage does, at its end."""

    def stop(self, grace: Delay | None = None) -> StopReport:
        """Stops nothing, and tells how many jobs wait."""
        return StopReport(0, self._stage.waiting())

    async def astop(self, grace: Delay | None = None) -> StopReport:
        """Stops nothing, and tells how many jobs wait."""
        return self.stop(grace)

    def drain(self, timeout: Delay | None = None) -> None:
        """Runs what is due."""
        self._stage.drain()

    async def adrain(self, timeout: Delay | None = None) -> None:
        """Runs what is due."""
        await self._stage.adrain()

    def __enter__(self) -> Self:
        """Starts nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops nothing."""

    async def __aenter__(self) -> Self:
        """Starts nothing."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops nothing."""

    # What is pushed by kind. Handlers' pushes come by way of the overseer.

    def push(self, *args: Any, **options: Any) -> Handle[Any]:
        """Pushes a job."""
        pushed = super().push(*args, **options)
        self._stage.pushed()
        return pushed

    async def apush(self, *args: Any, **options: Any) -> Handle[Any]:
        """Pushes a job."""
        pushed = await super().apush(*args, **options)
        await self._stage.apushed()
        return pushed

    def push_many(
        self, jobs: Iterable[tuple[str, object] | Mapping[str, Any]], /, *, wait: Delay | None = None
    ) -> list[Handle[Any]]:
        """Pushes jobs."""
        pushed = super().push_many(jobs, wait=wait)
        self._stage.pushed()
        return pushed


def double(stage: Stage, real: Dispatcher | None, clock: str, options: dict[str, Any]) -> Dispatcher:
    """A dispatcher in memory that behaves like `real` and belongs to the stage."""
    kept: dict[str, Any] = {}
    base: type[Dispatcher] = Dispatcher
    if real is not None:
        kept = {name: value for name, value in real.settings.items() if name not in ELSEWHERE}
        if kept["on_full"] == "spill":
            # Without a file there is nowhere to spill to, and in memory there is room.
            kept |= {"on_full": "reject", "capacity": 0, "capacity_bytes": 0}
        base = type(real)
    cls = type(base.__name__, (Rehearsed, *([] if base is Dispatcher else [base])), {})
    made: Dispatcher = Core.__new__(cls, "memory:", **{**kept, **options, "clock": clock})
    # Not the constructor of a class of the program's, which may want arguments that nobody knows any more;
    # what it made of them is taken over.
    Dispatcher.__init__(made)
    if real is not None:
        vars(made).update({k: v for k, v in vars(real).items() if k not in vars(made)})
        take_after(made, real)
    made.__dict__["_stage"] = stage
    oversee(made, Overseer(stage, made))
    return made


class Overseer:
    """Makes the pushes of handlers on a double, whichever dispatcher they belong to."""

    def __init__(self, stage: Stage | None, to: Core) -> None:
        self._stage = stage
        self._to = to

    def push(self, handler: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Pushes a job of the handler."""
        pushed: Handle[Any] = rebound(handler, self._to).push(*args, **kwargs)
        if self._stage is not None:
            self._stage.pushed()
        return pushed

    async def apush(self, handler: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Pushes a job of the handler."""
        pushed: Handle[Any] = await rebound(handler, self._to).apush(*args, **kwargs)
        if self._stage is not None:
            await self._stage.apushed()
        return pushed
