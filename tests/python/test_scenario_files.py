"""The scenario files of `tests/scenarios`, run in Python on every engine; their README tells what they say.

The runners of the other languages have the same parts.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import forebay
import pytest
from forebay import Consumer, Delivery, Dispatcher, ForebayError, Handle, JobInfo, Subscription

TESTS = Path(__file__).parent.parent
PLACES: list[dict[str, Any]] = json.loads((TESTS / "engines.json").read_text())
START = 1_700_000_000_000
"""Where the clock stands at the beginning, in milliseconds since 1970."""
NOBODY = UUID("00000000-0000-7000-8000-000000000001")
"""An id that no job has."""
UNLIMITED = 2**32 - 1
ERRORS = {code: name for code, name, _, _ in forebay._forebay.error_kinds()}

Json = dict[str, Any]


class MistakeError(Exception):
    """What a file says cannot be done."""


class Fields(dict[str, Any]):
    """The fields of a step, taken out one by one: what is left over is not known to this runner."""

    def take(self, name: str, default: Any = None) -> Any:
        return self.pop(name, default)

    def need(self, name: str) -> Any:
        if name not in self:
            raise MistakeError(f'field "{name}" is missing')
        return self.pop(name)

    def ms(self, name: str) -> float | None:
        value = self.pop(name, None)
        return None if value is None else value / 1000

    def queue(self) -> str:
        return str(self.pop("queue", "default"))

    def end(self) -> None:
        for name in self:
            raise MistakeError(f'unknown field "{name}"')


# ---- what is pushed and told -------------------------------------------------------------------------


def payload(fields: Fields) -> Any:
    """What a push, a retry or a result carries: bytes, or a value that is JSON."""
    if "json" in fields:
        return fields.take("json")
    if "hex" in fields:
        return bytes.fromhex(fields.take("hex"))
    if "size" in fields:
        return b"x" * fields.take("size")
    return str(fields.take("payload", "")).encode()


def text(value: Any) -> Json:
    """What a payload is, in the ways that scenarios look at it."""
    if not isinstance(value, bytes):
        return {"json": value}
    try:
        decoded = value.decode()
    except UnicodeDecodeError:
        decoded = None
    told: Json = {"payload": decoded, "hex": value[:64].hex(), "size": len(value)}
    return {**told, "content_type": "application/octet-stream", "json": None}


def attempts(most: int | None) -> int | str | None:
    return "unlimited" if most == UNLIMITED else most


def pairs(headers: dict[str, str]) -> list[list[str]]:
    return [list(pair) for pair in headers.items()]


def name_of(error: ForebayError) -> str:
    """The name of its kind: `WouldDeadlock` is `would_deadlock`."""
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in ERRORS[error.code])
    return name.removeprefix("_")


def failed(error: ForebayError) -> Json:
    return {"error": name_of(error), "message": str(error)}


# ---- the steps ---------------------------------------------------------------------------------------


class Stage:
    """One scenario on one engine: the dispatcher, and what the labels of the file stand for."""

    def __init__(self, place: Json, scratch: Path, options: Json) -> None:
        self.place = place
        self.scratch = scratch
        self.options = options
        self.advanced = 0
        self.dispatcher: Dispatcher | None = None
        self.events: Subscription | None = None
        self.jobs: dict[str, UUID] = {}
        self.handles: dict[UUID, Handle[Any]] = {}
        self.deliveries: dict[str, Delivery] = {}
        # One that is let go has failed.
        self.held: list[Delivery] = []

    @property
    def d(self) -> Dispatcher:
        if self.dispatcher is None:
            raise MistakeError("no dispatcher is open")
        return self.dispatcher

    def filled(self, value: str) -> str:
        return value.replace("{scratch}", str(self.scratch))

    def open(self, url: str) -> None:
        options = {"clock": f"manual({START + self.advanced})", **self.options}
        options = {name: self.filled(value) for name, value in options.items()}
        opened = Dispatcher(self.filled(url), **options)
        self.dispatcher, self.events = opened, None

    def id(self, label: str) -> UUID:
        if label not in self.jobs and label != "nobody":
            raise MistakeError(f'no job is called "{label}"')
        return self.jobs.get(label, NOBODY)

    def delivery(self, label: str) -> Delivery:
        if label not in self.deliveries:
            raise MistakeError(f'no delivery is called "{label}"')
        return self.deliveries[label]

    def label(self, id: UUID) -> str:
        return next((label for label, job in self.jobs.items() if job == id), "?")

    def name(self, label: str | None, id: UUID) -> None:
        if label is not None and self.label(id) == "?":
            self.jobs[label] = id

    def job(self, fields: Fields) -> tuple[str, Any, Json, str | None]:
        """A job to be pushed: kind, payload, options, and the label it is to have."""
        kind, carried, label = fields.take("kind", "k"), payload(fields), fields.take("as")
        options: Json = {}
        for name in ("queue", "priority", "max_attempts", "retry", "key", "concurrency_key", "durability"):
            options[name] = fields.take(name)
        options["waits_for"] = fields.take("waits_for")
        options["headers"] = dict(fields.take("headers", []))
        for name, field in (("delay", "delay_ms"), ("timeout", "timeout_ms"), ("deadline", "expires_ms")):
            options[name] = fields.ms(field)
        after = fields.ms("at_ms")
        if after is not None:
            options["run_at"] = self.d.now() + timedelta(seconds=after)
        id = fields.take("id")
        if id is not None:
            options["id"] = self.jobs.get(id) or UUID(id)
            self.name(label, options["id"])
        return kind, carried, {name: value for name, value in options.items() if value is not None}, label

    def batch(self, jobs: Iterable[Json]) -> list[tuple[Json, str | None]]:
        rows = []
        for job in jobs:
            fields = Fields(job)
            kind, carried, options, label = self.job(fields)
            fields.end()
            rows.append(({"kind": kind, "payload": carried, **options}, label))
        return rows

    def pushed(self, handle: Handle[Any], label: str | None) -> Json:
        self.name(label, handle.id)
        self.handles[handle.id] = handle
        told: Json = {"id": self.label(handle.id), "created": handle.created}
        return {**told, "shed": handle.shed, "durability": handle.durability}

    def delivered(self, job: Delivery, label: str | None) -> Json:
        self.name(label, job.id)
        known = self.label(job.id)
        self.held.append(job)
        self.deliveries[known] = job
        if label is not None:
            self.deliveries[label] = job
        due = None if job.due is None else round((job.due - self.d.now()).total_seconds() * 1000)
        told: Json = {
            "id": known,
            "kind": job.kind,
            "queue": job.queue,
            "attempt": job.attempt,
            "due_ms": due,
        }
        told |= {"max_attempts": attempts(job.max_attempts), "priority": job.priority, "key": job.key}
        told |= {"concurrency_key": job.concurrency_key, "headers": pairs(job.headers), "fence": job.fence}
        return told | text(job.payload)

    def told(self, job: JobInfo) -> Json:
        due = max(0, round((job.run_at - self.d.now()).total_seconds() * 1000))
        told: Json = {"id": self.label(job.id), "kind": job.kind, "queue": job.queue, "state": job.status}
        told |= {"priority": job.priority, "attempt": job.attempt, "crashes": job.crashes, "key": job.key}
        told |= {"max_attempts": attempts(job.max_attempts), "concurrency_key": job.concurrency_key}
        told |= {"headers": pairs(job.headers), "waits_for": job.waits_for, "due_ms": due}
        told |= {"cancel_requested": job.cancel_requested, "failure_kind": job.error_kind}
        told |= {"failure": job.error, "timeout_ms": None if job.timeout is None else job.timeout * 1000}
        history = [
            {"number": one.number, "failure_kind": one.error_kind, "failure": one.error}
            for one in job.history
        ]
        return {**told, "history": history}

    def step(self, name: str, fields: Fields) -> Json:
        step: Callable[[Fields], Json | None] | None = getattr(self, f"do_{name}", None)
        if step is None:
            raise MistakeError(f'unknown step "{name}"')
        return step(fields) or {}

    # ---- pushing and working

    def do_push(self, fields: Fields) -> Json:
        wait = fields.ms("wait_ms")
        kind, carried, options, label = self.job(fields)
        return self.pushed(self.d.push(kind, carried, wait=wait, **options), label)

    def do_push_many(self, fields: Fields) -> Json:
        wait, rows = fields.ms("wait_ms"), self.batch(fields.take("jobs", []))
        answer: Json = {}
        try:
            handles = self.d.push_many([job for job, _ in rows], wait=wait)
        except ForebayError as error:
            answer, handles = failed(error), getattr(error, "pushed", [])
        jobs = [self.pushed(handle, label) for handle, (_, label) in zip(handles, rows, strict=False)]
        return answer | {"accepted": len(jobs), "jobs": jobs}

    def do_next(self, fields: Fields) -> Json:
        consumer: Consumer = self.d.consumer(
            fields.take("kinds"), queues=fields.take("queues"), lease=fields.ms("lease_ms")
        )
        label, wait = fields.take("as"), fields.ms("wait_ms") or 0
        found = consumer.next_many(fields.take("max", 1), wait)
        jobs = [self.delivered(job, label) for job in found]
        return {"ids": [job["id"] for job in jobs], "jobs": jobs}

    def do_complete(self, fields: Fields) -> None:
        job, then = self.delivery(fields.need("job")), [row for row, _ in self.batch(fields.take("then", []))]
        verdict, error, after = fields.need("verdict"), fields.take("error", ""), fields.ms("after_ms")
        result = fields.take("result")
        result = payload(fields) if result is None else result.encode()
        match verdict:
            case "done":
                job.complete(result, then=then)
            case "failed":
                job.fail(error)
            case "fatal":
                job.fatal(error)
            case "retry":
                job.retry(after, error)
            case "snooze":
                job.snooze(after or 0)
            case "rate_limited":
                job.rate_limited(after)
            case "cancelled":
                job.cancel(error)
            case _:
                raise MistakeError(f'unknown verdict "{verdict}"')

    def do_extend(self, fields: Fields) -> None:
        self.delivery(fields.need("job")).extend(fields.need("lease_ms") / 1000)

    def do_stop_reason(self, fields: Fields) -> Json:
        return {"reason": self.delivery(fields.need("job")).stop_reason}

    # ---- single jobs

    def do_cancel(self, fields: Fields) -> Json:
        return {"state": self.d.cancel(self.id(fields.need("job")))}

    def do_retry(self, fields: Fields) -> Json:
        id, label = self.id(fields.need("job")), fields.take("as")
        again = {"json", "hex", "size", "payload"} & fields.keys()
        return self.pushed(self.d.retry(id, *([payload(fields)] if again else [])), label)

    def do_signal(self, fields: Fields) -> None:
        self.d.signal(self.id(fields.need("job")), fields.need("token"))

    def do_state(self, fields: Fields) -> Json:
        return {label: self.d.get(self.id(label)).status for label in fields.need("jobs")}

    def do_get(self, fields: Fields) -> Json:
        return self.told(self.d.get(self.id(fields.need("job"))))

    def do_result(self, fields: Fields) -> Json:
        id = self.id(fields.need("job"))
        try:
            told = text(self.handles[id].result(0) if id in self.handles else self.d.get(id).result)
        except forebay.JobCancelled as error:
            # A class of its own here, one kind of failed job elsewhere.
            return {"error": "job_failed", "message": str(error)}
        return {"result": told.get("payload"), **told}

    def do_explain(self, fields: Fields) -> Json:
        return {"text": self.d.explain(self.id(fields.need("job")))}

    def do_list(self, fields: Fields) -> Json:
        filters = {name: fields.take(name) for name in ("queue", "kind", "key", "limit")}
        for name in ("created_from", "created_before"):
            after = fields.ms(f"{name}_ms")
            since = self.d.now() - timedelta(milliseconds=self.advanced)
            filters[name] = None if after is None else since + timedelta(seconds=after)
        states, after = fields.take("states"), fields.take("after")
        filters |= {"status": states and tuple(states), "after": after and self.id(after)}
        page = self.d.list(**filters)
        return {"ids": [self.label(job.id) for job in page.jobs], "total": page.total}

    # ---- queues and kinds

    def do_pause(self, fields: Fields) -> None:
        self.d.pause(fields.queue())

    def do_resume(self, fields: Fields) -> None:
        self.d.resume(fields.queue())

    def do_purge(self, fields: Fields) -> Json:
        return {"count": self.d.purge(fields.queue())}

    def do_len(self, fields: Fields) -> Json:
        return {"len": self.d.len(fields.queue())}

    def do_pressure(self, fields: Fields) -> Json:
        return {"pressure": self.d.pressure(fields.queue())}

    def do_stats(self, fields: Fields) -> Json:
        queue, queues = fields.queue(), self.d.stats()["queues"]
        if queue not in queues:
            raise MistakeError(f'no queue is called "{queue}"')
        return dict(queues[queue])

    def do_metrics(self, fields: Fields) -> Json:
        return {"text": self.d.metrics()}

    def do_explain_queue(self, fields: Fields) -> Json:
        return {"text": self.d.explain_queue(fields.queue())}

    def do_forward(self, fields: Fields) -> None:
        queue, url = fields.queue(), self.filled(fields.need("url"))
        self.d.forward(queue, url, to_queue=fields.take("to_queue"), **fields.take("options", {}))

    def do_configure_queue(self, fields: Fields) -> None:
        self.d.configure_queue(fields.queue(), **fields.need("options"))

    def do_queue_options(self, fields: Fields) -> Json:
        return dict(self.d.queue_options(fields.queue()))

    def do_declare(self, fields: Fields) -> None:
        self.d.declare(fields.need("kind"), **fields.need("options"))

    # ---- the dispatcher

    def do_handle(self, fields: Fields) -> None:
        """A handler that says for each attempt what the file has for it."""
        kind, options, answers = fields.need("kind"), fields.take("options", {}), fields.need("answers")

        def handler(job: forebay.Job, _: object) -> Any:
            answer = Fields(answers[min(len(answers), job.attempt) - 1])
            verdict, error = answer.need("verdict"), answer.take("error", "")
            result, after = answer.take("result", "").encode(), answer.ms("after_ms")
            answer.end()
            raises: dict[str, BaseException] = {
                "failed": RuntimeError(error),
                "throw": BaseException(error),
                "fatal": forebay.Fatal(error),
                "retry": forebay.Retry(after=after, reason=error),
                "snooze": forebay.Snooze(after or 0),
                "rate_limited": forebay.RateLimited(after),
            }
            if verdict != "done":
                raise raises[verdict]
            return result

        self.d.handler(kind=kind, pass_job=True, **options)(handler)

    def do_start(self, fields: Fields) -> None:
        self.d.start()

    def do_drain(self, fields: Fields) -> None:
        self.d.drain(fields.take("wait_ms", 60_000) / 1000)

    def do_subscribe(self, fields: Fields) -> None:
        self.events = self.d.subscribe(fields.need("capacity"))

    def do_events(self, fields: Fields) -> Json:
        if self.events is None:
            raise MistakeError("nobody has subscribed")
        told = [
            {
                "event": event.kind,
                "id": self.label(event.id),
                "queue": event.queue,
                "kind": event.job_kind,
                "attempt": event.attempt,
            }
            for event in self.events.drain()
        ]
        return {"events": told, "dropped": self.events.dropped}

    def do_dump(self, fields: Fields) -> Json:
        return {"jobs": self.d.dump(self.scratch / fields.need("file"))}

    def do_restore(self, fields: Fields) -> Json:
        return {"jobs": self.d.restore(self.scratch / fields.need("file"))}

    def do_cut(self, fields: Fields) -> None:
        path = self.scratch / fields.need("file")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def do_flush(self, fields: Fields) -> Json:
        return {"durability": self.d.flush()}

    def do_request_stop(self, fields: Fields) -> None:
        self.d.request_stop()

    def do_stop(self, fields: Fields) -> Json:
        report = self.d.stop(fields.ms("grace_ms") or 0)
        return {"handed_back": report.handed_back, "waiting": report.waiting}

    def do_release(self, fields: Fields) -> None:
        self.dispatcher = self.events = None
        self.handles.clear()

    def do_open(self, fields: Fields) -> None:
        self.options = fields.take("options", self.options)
        self.open(fields.take("url", self.place["url"]))

    def do_advance(self, fields: Fields) -> None:
        by = fields.need("ms")
        self.d.advance(by / 1000)
        self.advanced += by


# ---- what is expected --------------------------------------------------------------------------------


def differs(at: str, wanted: Any, found: Any) -> str | None:
    """What does not fit, at which place of the answer."""
    here = f"{at} is {json.dumps(found, default=str)}, not {json.dumps(wanted)}"
    if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
        return None if all(keeps(name, rule, found) for name, rule in wanted.items()) else here
    if isinstance(wanted, dict) and isinstance(found, dict):
        inside = ((f"{at}.{name}", value, found.get(name, "missing")) for name, value in wanted.items())
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        both = enumerate(zip(wanted, found, strict=True))
        inside = ((f"{at}[{i}]", one, other) for i, (one, other) in both)
    else:
        # True is 1 to Python, and not to a scenario.
        return None if wanted == found and isinstance(wanted, bool) == isinstance(found, bool) else here
    return next(filter(None, (differs(*three) for three in inside)), None)


def keeps(name: str, rule: Any, found: Any) -> bool:
    match name:
        case "$contains":
            return isinstance(found, str) and all(part in found for part in rule)
        case "$from" | "$to":
            low, high = (rule, math.inf) if name == "$from" else (-math.inf, rule)
            return isinstance(found, int | float) and low <= found <= high
        case "$not":
            return differs("", rule, found) is not None
    return False


# ---- running -----------------------------------------------------------------------------------------


def run(scenario: Fields, place: Json, scratch: Path) -> str | None:
    """Runs one scenario on one engine: nothing, or what is wrong."""
    stage = Stage(place, scratch, scenario.take("open", {}))
    steps = [Fields(step) for step in scenario.need("steps")]
    scenario.end()
    stage.open(place["url"])
    for number, fields in enumerate(steps, 1):
        name, wanted = fields.need("do"), fields.take("expect", {})
        try:
            answer = stage.step(name, fields)
            fields.end()
        except MistakeError as mistake:
            return f"step {number} ({name}): {mistake}"
        except ForebayError as error:
            answer = failed(error)
            try:
                fields.end()
            except MistakeError as mistake:
                return f"step {number} ({name}): {mistake}"
        if "error" in answer and "error" not in wanted:
            return f"step {number} ({name}): failed with {answer['error']}: {answer['message']}"
        difference = differs("answer", wanted, answer)
        if difference is not None:
            return f"step {number} ({name}): {difference}; the answer was {answer}"
    if stage.dispatcher is not None:
        stage.dispatcher.stop(0)
    return None


def files(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else sorted(folder.glob("*.json"))


def runs() -> Iterable[tuple[Path, Json]]:
    """Every file with every engine that has what it needs."""
    named = os.environ.get("FOREBAY_SCENARIOS")
    folders = [Path(named)] if named else [TESTS / "scenarios", TESTS / "scenarios" / "wrong"]
    for path in (path for folder in folders for path in files(folder)):
        needs = set(json.loads(path.read_text()).get("needs", []))
        fit = [place for place in PLACES if needs <= set(place["has"])]
        assert fit, f"{path.stem}: no engine has {needs}"
        yield from ((path, place) for place in fit)


@pytest.mark.parametrize(
    ("path", "place"), [pytest.param(*run, id=f"{run[0].stem}-{run[1]['engine']}") for run in runs()]
)
@pytest.mark.filterwarnings("ignore:.*still waited and are lost")
def test_scenario(path: Path, place: Json, tmp_path: Path) -> None:
    scenario = Fields(json.loads(path.read_text()))
    name, fails = scenario.need("scenario"), scenario.take("fails", [])
    shows, said = scenario.take("shows", []), scenario.need("text")
    scenario.take("needs")
    assert name == path.stem
    assert said
    assert bool(shows) != bool(fails)
    fault = run(scenario, place, tmp_path)
    if not fails:
        assert fault is None, f"{name} on {place['engine']}: {fault}"
    else:
        assert fault is not None
        assert all(part in fault for part in fails), f"{name}: {fault}"


def test_no_scenario_is_left_out() -> None:
    ran = {path.stem for path, _ in runs()}
    print(f"Python: {len(ran)} scenarios, {len(list(runs()))} runs")
    assert len(ran) > 40 or "FOREBAY_SCENARIOS" in os.environ
