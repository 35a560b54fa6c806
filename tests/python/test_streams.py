"""Workers without standard streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import LIMIT

APP = """
import os
import forebay

d = forebay.Dispatcher()

@d.handler
def ended():
    os.write(int(os.environ["TELL"]), b"ran")
    d.request_stop()

ended.push()
"""


def test_a_worker_needs_no_standard_streams(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    reader, writer = os.pipe()
    run = f'exec "{sys.executable}" -m forebay worker app:d 0<&- 1>&- 2>&-'
    environment = {**os.environ, "TELL": str(writer)}
    worker = subprocess.Popen(["sh", "-c", run], cwd=tmp_path, env=environment, pass_fds=[writer])
    os.close(writer)
    with open(reader, "rb") as told:
        assert told.read() == b"ran"
    assert worker.wait(LIMIT) == 0
