"""The service, with jobs in its own process, and with a worker beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PROGRAM = """
import app
site = app.create_app()
client = site.test_client()
for user in ("ann", "bob", "ann"):
    assert client.post(f"/users/{user}").status_code == 202
id = client.post("/users/bob").json["id"]
assert client.get(f"/jobs/{id}").json["status"] in ("queued", "running", "succeeded")
with site.app_context():
    if DRAIN:
        app.forebay.dispatcher.drain(60)
"""


@pytest.fixture
def run(tmp_path: Path, run_python: Callable[..., str]) -> Callable[..., str]:
    where = os.environ | {
        "JOBS": f"sqlite:{tmp_path / 'jobs.db'}",
        "SHOP_WELCOMED": str(tmp_path / "welcomed.txt"),
        "FLASK_APP": "app",
    }
    return partial(run_python, HERE, where)


def test_users_are_welcomed_once(run: Callable[..., str], tmp_path: Path) -> None:
    run("-c", PROGRAM.replace("DRAIN", "True"))
    assert sorted((tmp_path / "welcomed.txt").read_text().split()) == ["ann", "bob"]
    assert "default" in run("-m", "flask", "forebay", "stats")
