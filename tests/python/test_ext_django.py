"""Django: a small project on SQLite, each of whose programs runs in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from conftest import LIMIT

FILES = {
    "settings.py": """
        import os
        from pathlib import Path
        BASE_DIR = Path(__file__).parent
        SECRET_KEY = "of a test"
        USE_TZ = True
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
        INSTALLED_APPS = ["forebay.ext.django", "shop"]
        FOREBAY = eval(os.environ["SITE_FOREBAY"])
        """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models

        class Order(models.Model):
            name = models.CharField(max_length=50)
            delivered = models.BooleanField(default=False)
        """,
    "shop/jobs.py": """
        import os
        from django.db import connection
        from forebay import Job
        from forebay.ext.django import job
        from shop.models import Order

        @job(max_attempts=3)
        def deliver(name: str) -> int:
            done = Order.objects.filter(name=name).update(delivered=True)
            os.write(1, f"delivered {name}\\n".encode())  # Whole lines, also from two threads.
            return done

        @job(kind="connected")
        def connected() -> bool:
            was = connection.connection is not None
            Order.objects.count()
            return was

        @job(using="other", pass_job=True)
        def attempt(job: Job, add: int) -> int:
            return job.attempt + add
        """,
}
SHARED = "{'default': {'URL': f'sqlite:{BASE_DIR}/jobs.db', 'OPTIONS': {'shared': True}}}"
MEMORY = "{'default': {'URL': 'memory:', 'OPTIONS': {'concurrency': 1}}, 'other': {'URL': 'memory:'}}"


class Site:
    """The project, and what is run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        for name, text in FILES.items():
            self.write(name, text)
        self.run("migrate", "--run-syncdb", forebay=MEMORY)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def where(self, forebay: str) -> dict[str, str]:
        return os.environ | {"DJANGO_SETTINGS_MODULE": "settings", "SITE_FOREBAY": forebay}

    def run(
        self, *words: str, forebay: str = SHARED, code: int = 0, command: tuple[str, ...] = ("-m", "django")
    ) -> str:
        """Runs `manage.py` with these words, and returns what it wrote."""
        done = subprocess.run(
            [sys.executable, "-W", "error", *command, *words],
            cwd=self.folder,
            env=self.where(forebay),
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * LIMIT,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def script(self, text: str, forebay: str = MEMORY) -> str:
        """Runs a program that has the project, and returns what it wrote."""
        head = "import os, sys\nfrom django import setup\nsetup()\nfrom shop import jobs, models\n"
        return self.run(head + textwrap.dedent(text), forebay=forebay, command=("-c",))

    @contextmanager
    def worker(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
        command = [sys.executable, "-m", "django", "forebay_worker", *words]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.where(SHARED), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield process, process.stdout
            finally:
                process.kill()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = Site(tmp_path_factory.mktemp("site"))
    site.make()
    return site.folder


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Site:
    return Site(shutil.copytree(template, tmp_path / "site"))


def test_jobs_are_found_and_run(site: Site) -> None:
    said = site.script(
        """
        from forebay.ext.django import dispatcher
        models.Order.objects.create(name="ink")
        handle = jobs.deliver.options(key="k").push("ink")
        assert handle.result(60) == 1, handle
        assert models.Order.objects.get().delivered
        assert handle.job().kind == "shop.deliver"
        assert jobs.attempt.push(1).result(60) == 2
        assert jobs.deliver("no such") == 0, "a call is a call"
        assert dispatcher() is not dispatcher("other")
        assert dispatcher("other").list().total == 1
        """
    )
    assert said == "delivered ink\ndelivered no such\n"


def test_connections_are_treated_as_around_a_request(site: Site) -> None:
    site.script(
        """
        from django.db import connection
        # One thread, so the second job would find the connection of the first.
        assert [jobs.connected.push().result(60) for _ in range(3)] == [False, False, False]
        # Those that may be kept are.
        connection.settings_dict["CONN_MAX_AGE"] = None
        assert [jobs.connected.push().result(60) for _ in range(3)] == [False, True, True]
        """
    )


def test_a_push_waits_for_the_commit(site: Site) -> None:
    site.script(
        """
        from django.db import transaction
        from forebay.ext.django import dispatcher, override_dispatcher, push_on_commit
        from forebay.testing import Stage
        with Stage() as stage, override_dispatcher(stage.dispatcher):
            with transaction.atomic():
                models.Order.objects.create(name="ink")
                push_on_commit(jobs.deliver.options(delay=5), "ink")
                assert stage.waiting() == 0
            stage.assert_enqueued(jobs.deliver, args=("ink",))
            try:
                with transaction.atomic():
                    push_on_commit(jobs.deliver, "oil")
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            push_on_commit(jobs.deliver, "now")
            assert stage.waiting() == 2
            stage.advance(5)
            stage.drain()
        assert dispatcher().list().total == 0
        """
    )


def test_a_server_may_fork_before_it_asks(site: Site) -> None:
    site.script(
        """
        assert jobs.connected.push().result(60) is False
        for _ in range(2):
            if (child := os.fork()) == 0:
                jobs.connected.push().result(60)
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_a_worker_serves_until_it_is_told_to_stop(site: Site) -> None:
    push = """
        for name in ("ink", "oil"):
            models.Order.objects.create(name=name)
            jobs.deliver.push(name)
        """
    site.script(push, forebay=SHARED)
    (queue,) = json.loads(site.run("forebay_stats", "--json"))["queues"]
    assert (queue["name"], queue["queued"]) == ("default", 2)
    with site.worker("--threads", "2") as (process, out):
        head = out.readline()
        assert head.startswith("default: sqlite:")
        assert head.endswith("2 kinds: connected, shop.deliver\n")
        assert {out.readline(), out.readline()} == {"delivered ink\n", "delivered oil\n"}
        # What is pushed meanwhile, by another process, is run as well.
        site.script('jobs.deliver.push("tar")', forebay=SHARED)
        assert out.readline() == "delivered tar\n"
        process.send_signal(signal.SIGTERM)
        assert out.read() == "stopped\n"
        assert process.wait(LIMIT) == 0
    site.script("assert models.Order.objects.filter(delivered=True).count() == 2")
    assert "no process has it open" in site.run("forebay_stats")


def test_a_worker_that_cannot_work_says_why(site: Site) -> None:
    assert site.run("forebay_worker", "--check").endswith("kinds: connected, shop.deliver\n")
    said = site.run("forebay_worker", "none", code=1)
    assert "the setting FOREBAY has no alias 'none'; it has 'default'" in said
    two = "{'default': {'URL': 'memory:'}, 'bare': {'URL': 'memory:'}}"
    said = site.run("forebay_worker", "bare", forebay=two, code=1)
    assert said.startswith("CommandError: no job is declared for 'bare': write @job functions")
    said = site.run("forebay_worker", forebay="{'default': {'URL': 'sqlite:/no/such/jobs.db'}}", code=1)
    assert said.startswith("CommandError: FOREBAY['default'] cannot be opened: ")
    said = site.run("forebay_stats", forebay=MEMORY, code=1)
    assert said == "CommandError: FOREBAY['default'] is memory:, and no other process can look into that\n"


FAULTS = {
    "None": "E001: the setting FOREBAY is missing: say {'default': {'URL': 'sqlite:/path/jobs.db'}}",
    "{'URL': 'memory:'}": "E002: the setting FOREBAY must be a dict of dicts: {'default': {'URL': ...}}",
    "{'a': {}}": "E004: FOREBAY['a'] has no URL: say 'URL': 'sqlite:/path/jobs.db', or 'memory:'",
    "{'a': {'URL': 'memory:', 'Options': {}}}": (
        "E005: FOREBAY['a'] says 'Options', which means nothing; there are 'OPTIONS', 'START', 'URL'"
    ),
    "{'a': {'URL': 'memory:', 'OPTIONS': []}}": (
        "E006: FOREBAY['a']['OPTIONS'] must be a dict of the options of forebay.Dispatcher"
    ),
    "{'a': {'URL': 'memory:', 'OPTIONS': {'workers': 4}}}": (
        "E007: FOREBAY['a']['OPTIONS'] says 'workers', which is no option; see docs/configuration.md"
    ),
    "{'a': {'URL': pathlib.Path('jobs.db'), 'OPTIONS': {'shared': True}, 'START': False}}": "",
}


def test_settings_that_make_no_sense_are_told(site: Site) -> None:
    said = site.script(
        f"""
        import pathlib
        from django.core.checks import run_checks
        from django.test import override_settings
        for setting in {list(FAULTS)}:
            with override_settings(FOREBAY=eval(setting)):
                print(*(f"{{found.id}}: {{found.msg}}" for found in run_checks()), sep="; ")
        """
    )
    assert said.splitlines() == [text and f"forebay.{text}" for text in FAULTS.values()]
    assert site.run("check") == "System check identified no issues (0 silenced).\n"
    assert "forebay.E004) FOREBAY['default']" in site.run("check", forebay="{'default': {}}", code=1)


def test_the_tests_of_a_project(site: Site) -> None:
    """As one writes them: in a TestCase, whose transactions never commit, with other settings for a time."""
    site.write(
        "shop/tests.py",
        """
        from django.test import TestCase, override_settings
        from forebay.ext.django import dispatcher, override_dispatcher, push_on_commit
        from forebay.testing import Stage
        from shop.jobs import deliver

        class Orders(TestCase):
            def test_an_order_is_delivered(self):
                with Stage() as stage, override_dispatcher(stage.dispatcher):
                    with self.captureOnCommitCallbacks(execute=True):
                        push_on_commit(deliver, "ink")
                    stage.assert_enqueued(deliver, args=("ink",))

            def test_in_memory(self):
                with override_settings(FOREBAY={"default": {"URL": "memory:", "START": False}}):
                    first = dispatcher()
                    assert deliver.push("ink").status == "queued"
                assert first.stopping
                assert dispatcher() is not first
        """,
    )
    assert "OK" in site.run("test", forebay=MEMORY)


def test_two_jobs_of_one_kind_are_refused(site: Site) -> None:
    site.write(
        "shop/jobs.py",
        """
        from forebay.ext.django import job
        @job(kind="k")
        def one(): ...
        @job(kind="k")
        def two(): ...
        """,
    )
    said = site.run("check", forebay=MEMORY, code=1)
    assert "the kind 'k' is declared twice, by shop.jobs.one and by shop.jobs.two" in said
