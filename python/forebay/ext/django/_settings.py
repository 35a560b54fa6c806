"""The setting FOREBAY, and the dispatchers that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import conf
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, reset_queries

from forebay._forebay import option_names
from forebay.dispatcher import Dispatcher
from forebay.ext._tasks import Home, Tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay._forebay import Job

_KEYS = {"URL", "OPTIONS", "START"}

_tasks: dict[str, Tasks] = {}
_homes: dict[str, Home] = {}


def tasks(alias: str) -> Tasks:
    """What is declared for an alias."""
    return _tasks.setdefault(alias, Tasks())


def home(alias: str, *, known: bool = True) -> Home:
    """Where the dispatcher of an alias lives; `known` ones are in the settings.

    Raises:
        ImproperlyConfigured: It should be, and is not.
    """
    found = _homes.get(alias)
    if known and (found is None or found.known() is None):
        read(alias)
    if found is None:
        found = _homes.setdefault(alias, tasks(alias).home(lambda: _open(alias)))
    return found


def forget() -> None:
    """The settings have changed: what they made is stopped, and made anew when somebody asks."""
    for one in _homes.values():
        one.stop()


def read(alias: str) -> Mapping[str, Any]:
    """What the settings say of an alias.

    Raises:
        ImproperlyConfigured: They say nothing of it, or something that makes no sense.
    """
    for _, text in faults(alias):
        raise ImproperlyConfigured(text)
    found: Mapping[str, Any] = conf.settings.FOREBAY[alias]
    return found


def faults(alias: str | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with the setting, or with one alias of it: the number of each fault, and a sentence."""
    said = getattr(conf.settings, "FOREBAY", None)
    if said is None:
        yield "E001", "the setting FOREBAY is missing: say {'default': {'URL': 'sqlite:/path/jobs.db'}}"
        return
    if not isinstance(said, Mapping) or not all(isinstance(one, Mapping) for one in said.values()):
        yield "E002", "the setting FOREBAY must be a dict of dicts: {'default': {'URL': ...}}"
        return
    if alias is not None and alias not in said:
        yield "E003", f"the setting FOREBAY has no alias {alias!r}; it has {_names(said)}"
        return
    for name in [alias] if alias is not None else said:
        yield from _faults_of(f"FOREBAY[{name!r}]", said[name])


def _faults_of(place: str, said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not said.get("URL"):
        yield "E004", f"{place} has no URL: say 'URL': 'sqlite:/path/jobs.db', or 'memory:'"
    for name in said.keys() - _KEYS:
        yield "E005", f"{place} says {name!r}, which means nothing; there are {_names(_KEYS)}"
    options = said.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        yield "E006", f"{place}['OPTIONS'] must be a dict of the options of forebay.Dispatcher"
        return
    for name in options.keys() - set(option_names()[0]):
        yield "E007", f"{place}['OPTIONS'] says {name!r}, which is no option; see docs/configuration.md"


def _names(names: Any) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"


def _open(alias: str) -> tuple[Dispatcher, bool]:
    said = read(alias)
    options = dict(said.get("OPTIONS", {}))
    made = equipped(Dispatcher(said["URL"], **options))
    start = said.get("START")
    return made, not options.get("shared") if start is None else bool(start)


def equipped(dispatcher: Dispatcher) -> Dispatcher:
    """Treats the database connections of a thread around each attempt as Django does around a request."""

    def before(job: Job) -> None:
        reset_queries()
        close_old_connections()

    dispatcher.add_hooks(before=before, after=lambda job, outcome, seconds: close_old_connections())
    return dispatcher
