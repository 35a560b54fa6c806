"""The pytest plugin of Forebay.

It has a package of its own, so that a run of pytest that uses none of it does not import Forebay. What it can
do is in `forebay.testing`; its fixtures import that when a test asks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from forebay import Dispatcher
    from forebay.testing import Crashed, Stage

_MARKER = (
    "forebay(dispatcher=None, *, inline=False, seed=0, start=None, **options): what the fixtures"
    " forebay_stage and forebay_dispatcher of the test are: the dispatcher whose place the stage takes, or"
    ' its name as "module:attribute"; whether jobs run as they are pushed; the seed of jitter and sampling;'
    " where the clock stands; options of the dispatcher."
)
_REDIRECT: pytest.StashKey[AbstractContextManager[None]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Says what can be set."""
    group = parser.getgroup("forebay", "jobs (forebay)")
    group.addoption(
        "--forebay-in-memory",
        action="store_true",
        default=None,
        help="open every forebay.Dispatcher in memory, whatever its URL says: no test touches a file of jobs",
    )
    parser.addini(
        "forebay_in_memory",
        "open every forebay.Dispatcher in memory, from before the first conftest.py is imported",
        type="bool",
        default=False,
    )
    parser.addini(
        "forebay_dispatcher",
        "the dispatcher whose place forebay_stage takes where no marker says it, as module:attribute",
        default="",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Redirects before anything of the program is imported."""
    if early_config.known_args_namespace.forebay_in_memory or early_config.getini("forebay_in_memory"):
        from forebay.testing import redirect

        redirected = redirect()
        redirected.__enter__()
        early_config.stash[_REDIRECT] = redirected


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends that."""
    redirected = config.stash.get(_REDIRECT, None)
    if redirected is not None:
        del config.stash[_REDIRECT]
        redirected.__exit__(None, None, None)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def forebay_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage of forebay.testing, on which jobs run when the test says so.

    It takes the place of the dispatcher that the marker `forebay` names, or the option `forebay_dispatcher`;
    without either it has a dispatcher of its own.
    """
    from forebay.testing import Stage, replace

    dispatcher, options = _asked(request.node)
    dispatcher = dispatcher or request.config.getini("forebay_dispatcher") or None
    if isinstance(dispatcher, str):
        dispatcher = _named(dispatcher)
    with Stage(**options) if dispatcher is None else replace(dispatcher, **options) as stage:
        yield stage


@pytest.fixture
def forebay_dispatcher(forebay_stage: Stage) -> Dispatcher:
    """The dispatcher of forebay_stage: in memory, its clock stands still, and nothing runs by itself."""
    return forebay_stage.dispatcher


@pytest.fixture
def forebay_crash(tmp_path: Path) -> Callable[..., Crashed]:
    """forebay.testing.crash with a file of the test's own, which the answer's `url` names."""
    from forebay.testing import crash

    def crashing(function: Callable[..., object], **options: Any) -> Crashed:
        __tracebackhide__ = True
        options.setdefault("url", f"sqlite:{tmp_path / 'jobs.db'}")
        return crash(function, **options)

    return crashing


def _asked(node: Any) -> tuple[Any, dict[str, Any]]:
    """What the markers of a test say, the nearest first."""
    dispatcher, options = None, dict[str, Any]()
    for marker in node.iter_markers("forebay"):
        given = dict(marker.kwargs)
        if len(marker.args) > 1:
            raise pytest.UsageError(
                f"the marker forebay takes one dispatcher by position, not {len(marker.args)}"
            )
        here = given.pop("dispatcher", None) or (marker.args[0] if marker.args else None)
        dispatcher = here if dispatcher is None else dispatcher
        options = {**given, **options}
    return dispatcher, options


def _named(name: str) -> Any:
    """The object `module:attribute`."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise pytest.UsageError(f'forebay: {name!r} names no dispatcher; write "module:attribute"')
    from importlib import import_module
    from operator import attrgetter

    return attrgetter(attribute)(import_module(module))
