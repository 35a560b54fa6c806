"""The command `forebay_stats`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from forebay.ext._tasks import show_counts
from forebay.ext.django import _settings
from forebay.ext.django._bases import BaseCommand


class Command(BaseCommand):
    """Counts the jobs of an alias."""

    help = "Counts the jobs of an alias of FOREBAY, asking the process that has the file open."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What can be said on the command line."""
        parser.add_argument("alias", nargs="?", default="default", help="whose jobs; default: %(default)s")
        parser.add_argument("--json", action="store_true", help="write JSON")

    def handle(self, *args: Any, alias: str, json: bool, **options: Any) -> None:
        """Asks, and writes the answer."""
        url = str(_settings.read(alias)["URL"])
        if url == "memory:":
            raise CommandError(f"FOREBAY[{alias!r}] is memory:, and no other process can look into that")
        if code := show_counts(url, json):
            sys.exit(code)
