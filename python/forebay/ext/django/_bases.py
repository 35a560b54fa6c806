"""The classes of Django that ours derive from: it has no types of its own, and ours are to have theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import TextIO

    class AppConfig:
        """An app."""

        name: str
        label: str
        verbose_name: str

        def ready(self) -> None:
            """Called once every app is loaded."""

    class BaseCommand:
        """A command."""

        help: str
        stdout: TextIO

        def add_arguments(self, parser: ArgumentParser) -> None:
            """Tells what can be said on the command line."""

else:
    from django.apps import AppConfig
    from django.core.management.base import BaseCommand

__all__ = ["AppConfig", "BaseCommand"]
