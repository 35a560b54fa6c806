"""The command `forebay_worker`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from forebay.errors import ForebayError
from forebay.ext.django import _settings
from forebay.ext.django._bases import BaseCommand


class Command(BaseCommand):
    """Runs jobs until it is told to stop."""

    help = "Runs the jobs of an alias of FOREBAY until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What can be said on the command line."""
        parser.add_argument("alias", nargs="?", default="default", help="whose jobs; default: %(default)s")
        parser.add_argument("--threads", type=int, metavar="N", help="run no more jobs at once than this")
        parser.add_argument(
            "--check", action="store_true", help="only say whether it could run: open the file, find the jobs"
        )

    def handle(self, *args: Any, alias: str, threads: int | None, check: bool, **options: Any) -> None:
        """Opens the dispatcher, and runs it."""
        try:
            dispatcher = _settings.home(alias).dispatcher(start=False)
        except ForebayError as error:
            raise CommandError(f"FOREBAY[{alias!r}] cannot be opened: {error}") from error
        kinds = _settings.tasks(alias).kinds()
        if not kinds:
            raise CommandError(
                f"no job is declared for {alias!r}: write @job functions in the jobs.py of an installed app"
            )
        self.stdout.write(f"{alias}: {_settings.read(alias)['URL']}, {len(kinds)} kinds: {', '.join(kinds)}")
        # Whoever reads it by a pipe is to see it now, not when the worker ends.
        self.stdout.flush()
        if check:
            dispatcher.stop(0)
            return
        dispatcher.run(threads)
        self.stdout.write("stopped")
