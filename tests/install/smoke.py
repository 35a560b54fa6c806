"""What a fresh installation must be able to do, with nothing else installed."""

import asyncio
import sys
import tempfile
from pathlib import Path

import forebay

with forebay.Dispatcher(concurrency=2) as d:

    @d.handler(max_attempts=3)
    def greet(name: str) -> str:
        return f"hello {name}"

    @d.handler
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    assert greet.push("world").result(60) == "hello world"
    assert double.push(21).result(60) == 42

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "jobs.db"
    with forebay.Dispatcher(file) as d:
        kept = d.handler(kind="later")(print).options(delay=3600).push("x")
    with forebay.Dispatcher(file) as d:
        assert d.get(kept.id).status == "scheduled"

print(sys.version.split()[0], "forebay", forebay.__version__)
