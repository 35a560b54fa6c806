"""Every contender by its name."""

from __future__ import annotations

import os

from contenders import CONTENDERS, Contender, Function, Opened
from durable import DURABLE
from imports import MODULES
from loops import LOOPS

KNOWN: dict[str, Contender] = {**CONTENDERS, **DURABLE, **LOOPS}


def opened(name: str, function: Function) -> Opened:
    """Opens the contender `base:2` with two threads, `base:1 pinned` with one and on one processor."""
    base, _, setting = name.partition(":")
    threads, _, pinned = setting.partition(" ")
    if pinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return KNOWN[base].open(int(threads or 1), function)


def title(name: str) -> str:
    """What a contender is, for people: its description and its setting."""
    if name in MODULES:
        return f"`import {MODULES[name]}`"
    base, _, setting = name.partition(":")
    return f"{KNOWN[base].title} ({setting})" if setting else KNOWN[base].title
