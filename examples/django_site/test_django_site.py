"""Orders by way of the web server's half, receipts by two workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 60
RECEIPT = re.compile(r"a receipt for (\w+)")

ORDERS = """
import django
django.setup()
from django.test import Client
client = Client(raise_request_exception=False)
answers = [client.post(f"/orders/{item}").status_code for item in ("ink", "oil", "dynamite", "tar")]
assert answers == [202, 202, 500, 202], answers
"""
RECEIPTS = """
import django
django.setup()
from shop.models import Order
assert list(Order.objects.order_by("item").values_list("item", "receipt")) == [
    ("ink", True), ("oil", True), ("tar", True)
]
"""


def test_receipts_are_sent_for_what_was_committed(tmp_path: Path, run_python: Callable[..., str]) -> None:
    # What a worker says by a pipe is heard at once, whatever the environment says of buffers.
    ours = {"SHOP_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "settings", "PYTHONUNBUFFERED": ""}
    where = os.environ | ours
    run = partial(run_python, HERE, where)
    run("manage.py", "migrate", "--run-syncdb", "-v0")
    run("manage.py", "check")
    command = [sys.executable, "manage.py", "forebay_worker", "--threads", "2"]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, cwd=HERE, env=where, stdout=pipe, stderr=pipe) for _ in range(2)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert b"shop.send_receipt" in worker.stdout.readline()
        run("-c", textwrap.dedent(ORDERS))
        run("manage.py", "forebay_stats")
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        said = "".join(worker.communicate(timeout=LIMIT)[1].decode() for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0], said
    # What they had not begun yet is done by the next one.
    with subprocess.Popen(command, cwd=HERE, env=where, stderr=pipe) as last:
        run("manage.py", "check")
        assert last.stderr is not None
        # Each of them: one that has failed is tried, and told of, again.
        seen = set(RECEIPT.findall(said))
        while len(seen) < 3:
            line = last.stderr.readline().decode()
            assert line, "it ended"
            seen |= set(RECEIPT.findall(line))
        last.send_signal(signal.SIGTERM)
        # It may not have come to listen to signals yet, and then it is killed.
        assert last.wait(LIMIT) in (0, -signal.SIGTERM)
    run("-c", textwrap.dedent(RECEIPTS))
