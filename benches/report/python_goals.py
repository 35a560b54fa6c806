"""The goals for handlers in Python."""

from __future__ import annotations

from collections.abc import Callable

from goal import Goal, Results, plain, rate, ratio


def best_forebay(results: Results) -> float:
    """Forebay at the best of its thread counts."""
    return max(rate(results, "python", f"forebay:{setting}") for setting in ("1", "2", "4", "1 pinned"))


def best_pool(results: Results) -> float:
    """The better of the two thread pools, each at the best of its settings."""
    rows = results["python"][0]["rows"]
    pools = [row for row in rows if row["name"].split(":")[0] in ("executor", "threadpool")]
    return max(float(row["figures"]["jobs/s"]) for row in pools)


def executors(results: Results) -> float:
    """Every result read: `forebay.Executor` to `ThreadPoolExecutor`, each at the best of its settings."""
    rows = results["python-executor"][0]["rows"]

    def best(name: str) -> float:
        return max(float(row["figures"]["jobs/s"]) for row in rows if row["name"].split(":")[0] == name)

    return best("forebay-executor-results") / best("executor-results")


def coroutines(peer: str, way: str = "") -> Callable[[Results], float]:
    """Async handlers against a peer on the same loop, asyncio's own."""
    return ratio("python-async", f"async{way}:100", f"{peer}{way}" + (":100" if peer == "queue" else ""))


_CPU = plain("python", "forebay:1", "CPU µs/job")
_TO_QUEUE = "ratio to `asyncio.Queue`, 100 workers"
_TO_TASKS = "ratio to a task per job"

PYTHON = (
    Goal(
        "Python, no-op handlers", "ratio to the better pool", 10, 20, lambda r: best_forebay(r) / best_pool(r)
    ),
    Goal("Python, no-op handlers", "CPU µs/job", 0.4, 0.25, _CPU, True),
    Goal(
        "Python, `task.push(a, b=1)`",
        "ratio to the better pool",
        8,
        12,
        lambda r: rate(r, "python", "forebay-task:1") / best_pool(r),
    ),
    Goal(
        "Python memory per queued job",
        "bytes",
        160,
        130,
        plain("python-memory", "forebay:1", "bytes/job"),
        True,
    ),
    Goal(
        "Python push with 1 M queued",
        "ratio to without",
        1.2,
        1.2,
        plain("python-backlog", "forebay:1", "ratio"),
        True,
    ),
    Goal(
        "Python, payload as JSON",
        "ratio to json loop",
        3,
        5,
        ratio("python-json", "forebay-json:1", "json-loop"),
    ),
    *(
        Goal(
            f"Python latency at 1 000/s, {figure[:3]}",
            "ratio to ThreadPoolExecutor",
            1,
            1,
            ratio("python-latency", "forebay:2", "executor:2", figure),
            True,
        )
        for figure in ("p50 µs", "p99 µs")
    ),
    Goal(
        "Python, `Executor.submit`, every result read",
        "ratio to `ThreadPoolExecutor`",
        3,
        5,
        executors,
    ),
    Goal("async handlers that do not wait", _TO_QUEUE, 2, 3, coroutines("queue")),
    Goal("async handlers that do not wait", _TO_TASKS, 10, 10, coroutines("tasks")),
    Goal("async handlers that wait once", _TO_QUEUE, 1, 1.3, coroutines("queue", "-waits")),
    Goal("async handlers that wait once", _TO_TASKS, 2.5, 2.5, coroutines("tasks", "-waits")),
    Goal("async, awaited push", _TO_QUEUE, 2, 3, coroutines("queue", "-awaited")),
    Goal("async, awaited push, wait once", _TO_QUEUE, 1, 1.3, coroutines("queue", "-awaited-waits")),
    Goal("async, pushed by a thread", _TO_QUEUE, 2, 3, coroutines("queue", "-thread")),
    Goal("async, pushed by a thread, wait once", _TO_QUEUE, 1, 1.3, coroutines("queue", "-thread-waits")),
)
