"""What annotations make of values that leave the process."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import forebay
import msgspec
import pydantic
import pytest
from conftest import LIMIT
from forebay import Dispatcher

from scripts import run

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")
Opened = Callable[..., Dispatcher]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    CALM = "calm"


class Way(enum.Flag):
    IN = 1
    OUT = 2


class Shape(enum.Enum):
    ROUND = (1, 2)
    FLAT = (3, 4)


class Point(NamedTuple):
    x: int
    when: date = date(2000, 1, 1)


class Address(TypedDict):
    street: str
    since: NotRequired[date]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    name: str
    price: Decimal
    colour: Colour | None = None


@dataclass
class Order:
    id: UUID
    items: list[Item]
    notes: dict[str, Any] = field(default_factory=dict)
    total: Decimal = field(init=False, default=Decimal(0))
    cache: dataclasses.InitVar[int] = 0

    def __post_init__(self, cache: int) -> None:
        self.total = Decimal(len(self.items))


@dataclass
class Tree:
    value: int
    leaves: list[Tree] = field(default_factory=list)


@dataclass
class Box(Generic[T]):
    inside: T
    many: list[T]


@dataclass
class Made:
    at: datetime


@dataclass
class Gone:
    at: datetime
    why: str = ""


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: datetime
    price: Decimal
    tags: set[str] = set()
    named: int = pydantic.Field(default=0, alias="theName")


class TwoNames(pydantic.BaseModel):
    one: int = pydantic.Field(validation_alias="in", serialization_alias="out")
    two: int = pydantic.Field(default=0, validation_alias=pydantic.AliasChoices("a", "b"))


class HasTwoNames(pydantic.BaseModel):
    inner: list[TwoNames] | None = pydantic.Field(alias="within", default=None)
    model_config = pydantic.ConfigDict(populate_by_name=True)


class Struct(msgspec.Struct):
    when: datetime
    data: bytes
    by_id: dict[int, str] = {}


UserId = NewType("UserId", int)
NOW = datetime(2026, 11, 21, 9, 30, 1, 5, tzinfo=UTC)
ID = UUID("01a1fa4b-69e4-7694-a8d8-eb128a7ee381")
ITEM = Item(name="x", price=Decimal("0.10"), colour=Colour.RED)

VALUES: list[tuple[Any, Any]] = [
    (datetime, NOW),
    (datetime, datetime(2026, 1, 1, 0, 0, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
    (datetime, datetime(2026, 1, 1, 12, 30)),
    (date, date(1, 1, 1)),
    (time, time(1, 2, 3, 4)),
    *[
        (timedelta, timedelta(days=d, seconds=s, microseconds=u))
        for d in (-3, 0, 400)
        for s in (0, 61)
        for u in (0, 5)
    ],
    (timedelta, timedelta.max),
    (timedelta, timedelta.min),
    (UUID, ID),
    *[(Decimal, Decimal(text)) for text in ("0.10", "-0", "1E+30", "NaN", "12345678901234567890.123456789")],
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"ab")),
    (Path, Path("/tmp/a b")),
    (PurePosixPath, PurePosixPath("a/b")),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Way, Way.IN | Way.OUT),
    (Shape, Shape.FLAT),
    (Literal[Colour.RED, "red", 1], Colour.RED),
    (Literal[b"a", b"b"], b"b"),
    (Point, Point(3, date(2026, 1, 2))),
    (Address, {"street": "s", "since": date(2026, 1, 1)}),
    (Address, {"street": "s", "more": [1, 2]}),
    (Item, ITEM),
    (Order, Order(ID, [ITEM, ITEM], {"a": [1, None]})),
    (Tree, Tree(1, [Tree(2, [Tree(3)]), Tree(4)])),
    (Box[date], Box(date(2026, 1, 1), [date(2026, 1, 2)])),
    (Box[int], Box(1, [2])),
    (list[Item], [ITEM]),
    (Sequence[Item], [ITEM]),
    (dict[str, list[datetime]], {"a": [NOW]}),
    (dict[date, Item], {date(2026, 1, 1): ITEM}),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[tuple[int, int], bool], {(1, 2): True}),
    (Mapping[UUID, int], {ID: 1}),
    (OrderedDict[str, int], OrderedDict(a=1)),
    (set[int], {3, 1, 2}),
    (set[Item], {ITEM}),
    (frozenset[str], frozenset({"a", "b"})),
    (set, {1, 2}),
    (deque[int], deque([1, 2])),
    (tuple[int, date], (1, date(2026, 1, 1))),
    (tuple[date, ...], (date(2026, 1, 1),) * 3),
    (tuple[()], ()),
    (tuple, (1, "a")),
    (Item | None, None),
    (Item | None, ITEM),
    (Annotated[date | None, "a note"], date(2026, 1, 1)),
    (list[Annotated[date, pydantic.Field()]], [date(2026, 1, 1)]),
    (int | date, 5),
    (int | date, date(2026, 1, 1)),
    (str | date, "2026-01-01"),
    (str | date, date(2026, 1, 1)),
    (date | str, "2026-01-01"),
    (date | str, date(2026, 1, 1)),
    (Decimal | str, "1"),
    (UUID | bytes | str, str(UUID(int=7))),
    (str | Mood, Mood.CALM),
    (Mood | str, "calm"),
    (int | Level, Level.LOW),
    (Level | int, 1),
    (date | datetime | None, NOW),
    (date | datetime | None, date(2026, 1, 1)),
    (Made | Gone, Made(NOW)),
    (Made | Gone, Gone(NOW, "old")),
    (Made | dict[str, Any], {"$type": "Made"}),
    (list[int] | list[date], [date(2026, 1, 1)]),
    (bool | int | Decimal, True),
    (bool | int | Decimal, 1),
    (Model, Model(when=NOW, price=Decimal("1.50"), tags={"a"}, theName=3)),
    (list[Model | None], [None, Model(when=NOW, price=Decimal(1))]),
    (Made | Model, Model(when=NOW, price=Decimal(1))),
    (TwoNames, TwoNames(**{"in": 1, "b": 2})),
    (HasTwoNames, HasTwoNames(**{"within": [TwoNames(**{"in": 1})]})),
    (Struct, Struct(NOW, b"\xff", {1: "a"})),
    (dict[str, Struct], {"a": Struct(NOW, b"")}),
]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize(("hint", "value"), VALUES, ids=lambda v: repr(v)[:50])
def test_values_come_back_as_they_went(opened: Opened, hint: Any, value: Any, codec: str) -> None:
    d = opened(by_reference=False, codec=codec, concurrency=1)
    seen: list[Any] = []

    def handler(one: Any, *rest: Any, named: Any = None, **more: Any) -> Any:
        seen.extend([one, *rest, named, *more.values()])
        return one

    handler.__annotations__ = dict.fromkeys(("one", "rest", "named", "more", "return"), hint)
    task = d.handler(handler)
    d.start()
    result = task.push(value, value, named=value, other=value).result(LIMIT)
    direct = d.push("handler", value).result(LIMIT)
    assert seen[:4] == [value] * 4 or "NaN" in repr(value)
    for got in (*seen[:4], seen[4], result, direct):
        assert got == value or "NaN" in repr(value)
        assert repr(got) == repr(value) or "tz" in repr(value), "with its type"
        assert type(got) is type(value)
        # What is one object wherever it comes from: constants, and those that an interpreter keeps.
        kept = isinstance(value, int | str | bytes | enum.Enum | None) or value in ((), timedelta(0))
        assert got is not value or kept


def test_what_is_written_is_plain(opened: Opened) -> None:
    d = opened(by_reference=False)

    @d.handler
    def pay(order: Order, *, at: datetime, colours: set[Colour], either: Made | Gone) -> None: ...

    handle = pay.push(Order(ID, [ITEM]), at=NOW, colours={Colour.RED, Colour.BLUE}, either=Gone(NOW))
    assert handle.job().payload == {
        "args": [
            {
                "id": str(ID),
                "items": [{"name": "x", "price": "0.10", "colour": "red"}],
                "notes": {},
            }
        ],
        "kwargs": {
            "at": "2026-11-21T09:30:01.000005+00:00",
            "colours": ["blue", "red"],
            "either": {"$type": "Gone", "at": "2026-11-21T09:30:01.000005+00:00", "why": ""},
        },
    }


@dataclass
class Derived(Made):
    more: int = 0


WRONG: list[tuple[Any, Any, str]] = [
    (
        Order,
        Order(ID, [ITEM, "x"]),  # type: ignore[list-item]
        r"\$\.args\[0\]\.items\[1\] \(parameter 'one'\): expected Item, got a str",
    ),
    (Order, {"id": 1}, r"\$\.args\[0\] \(parameter 'one'\): expected Order, got a dict"),
    (Item, Item(name="x", price=1.5), r"\.price \(.*: expected Decimal, got a float"),  # type: ignore[arg-type]
    (list[date], [NOW], r"\$\.args\[0\]\[0\] \(.*: expected date, got a datetime"),
    (dict[str, date], {"a": 1}, r"\$\.args\[0\]\.a \(.*expected date, got a int"),
    (dict[date, int], {"a": 1}, r"the key 'a': expected date, got a str"),
    (Made, Derived(NOW), "expected Made, got a Derived"),
    (Colour, "red", "expected Colour, got a str"),
    (tuple[int, date], (1,), r"expected tuple\[int, date\], got a tuple"),
    (Literal[Colour.RED], Colour.BLUE, "expected one of <Colour.RED: 'red'>, got <Colour.BLUE: 'blue'>"),
    (Made | Gone, 3, "expected Made or Gone, got a int"),
    (Address, {}, "expected Address: the member 'street' is missing"),
    (Tree, Tree("1"), r"\.value \(.*: expected int, got a str"),  # type: ignore[arg-type]
    (Tree, Tree(True), "expected int, got a bool"),
    (Model, {"when": NOW}, "expected Model, got a dict"),
    (
        Any,
        Decimal(1),
        r"\$\.args\[0\]: a Decimal cannot be written as JSON: annotate the parameter, or convert it",
    ),
    (Any, [{"a": {1}}], r"\$\.args\[0\]\[0\]\.a: a set cannot be written as JSON: annotate"),
    (object, len, r"\$\.args\[0\]: a builtin_function_or_method cannot be written as JSON: convert it"),
    (list[float], [float("nan")], r"\$\.args\[0\]\[0\]: nan cannot be written as JSON"),
]


@pytest.mark.parametrize(("hint", "value", "text"), WRONG, ids=lambda v: repr(v)[:40])
def test_what_does_not_fit_is_refused_at_the_push(
    opened: Opened, tmp_path: Path, hint: Any, value: Any, text: str
) -> None:
    d = opened(url=tmp_path / "jobs.db")

    def handler(one: Any) -> None: ...

    handler.__annotations__ = {"one": hint}
    task = d.handler(handler)
    with pytest.raises(forebay.EncodeError, match=text):
        task.push(value)
    with pytest.raises(forebay.EncodeError):
        d.push("handler", value)
    assert d.len() == 0
    free = opened()
    free.handler(handler).push(value)
    with pytest.raises(forebay.EncodeError, match=text):
        free.dump(tmp_path / "dump")
    with pytest.raises(forebay.EncodeError, match=text):
        free.handler(handler).options(key="k").push(value)


UNREADABLE: list[tuple[Any, Any, str]] = [
    (
        Order,
        {"id": "x", "items": []},
        r"\$\.args\[0\]\.id \(parameter 'one'\): expected UUID, got the text 'x'",
    ),
    (Order, {"items": []}, "expected Order: the member 'id' is missing"),
    (
        Order,
        {"id": str(ID), "items": [{"name": "a"}]},
        r"\.items\[0\] \(.*expected Item: the member 'price' is missing",
    ),
    (Tree, {"value": 1.5}, r"\.value \(.*: expected int, got the number 1.5"),
    (Tree, [1], "expected Tree, got an array of 1"),
    (Colour, "green", "expected Colour, one of 'red', 'blue', got the text 'green'"),
    (bytes, "?", "expected bytes in base64, got the text '\\?'"),
    (timedelta, "5 s", "expected timedelta, got the text '5 s'"),
    (Decimal, 1.5, "expected Decimal, got the number 1.5"),
    (Made | Gone, {"$type": "Other"}, r"expected Made or Gone, got an object of the \$type 'Other'"),
    (Made | Gone, None, "expected Made or Gone, got null"),
    (set[Any], [[]], "expected set.*unhashable"),
    (
        Model,
        {"when": "x", "price": 1},
        r"\$\.args\[0\]\.when \(.*Model does not take it: Input should be a valid datetime",
    ),
    (Struct, {"when": "x"}, r"\$\.args\[0\]\.when \(.*Struct does not take it: Invalid RFC3339"),
    (Made, {"at": "x" * 99}, "expected datetime, got a text of 99 characters"),
]


@pytest.mark.parametrize(("hint", "value", "text"), UNREADABLE, ids=lambda v: repr(v)[:40])
def test_what_cannot_be_read_fails_at_once_and_is_kept(
    opened: Opened, tmp_path: Path, hint: Any, value: Any, text: str
) -> None:
    writer, d = opened(by_reference=False), opened(concurrency=1, max_attempts=5)
    writer.handler(kind="handler")(lambda one: None).push(value)
    writer.dump(tmp_path / "dump")
    d.restore(tmp_path / "dump")
    calls: list[Any] = []

    def handler(one: Any) -> None:
        calls.append(one)

    handler.__annotations__ = {"one": hint}
    d.handler(handler)
    [job] = d.list().jobs
    d.start()
    d.drain(LIMIT)
    job = d.get(job.id)
    assert (job.status, job.error_kind, job.attempt, calls) == ("failed", "fatal", 1, [])
    assert job.error is not None
    assert re.search(text, job.error)
    assert job.error.startswith("the job cannot be read: $")
    assert job.payload == {"args": [value], "kwargs": {}}
    # It can run again once whoever reads it can.
    d.handler(kind="handler")(lambda one: one)
    assert d.retry(job.id).result(LIMIT) == value


def test_annotations_are_found_wherever_they_are(opened: Opened) -> None:
    @dataclass
    class Local:
        at: date

    value = Local(date(2026, 1, 1))
    d = opened(by_reference=False, concurrency=1)
    seen: list[Any] = []

    def plain(one: Local, two: Local | None = None) -> Local:
        return Local(one.at)

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    class Called:
        def __call__(self, one: Local) -> Local:
            return Local(one.at)

    class Methods:
        def method(self, one: Local) -> Local:
            return Local(one.at)

        @classmethod
        def of_class(cls, one: Local) -> Local:
            return Local(one.at)

        @staticmethod
        def of_nobody(one: Local) -> Local:
            return Local(one.at)

    @d.handler(pass_job=True)
    def with_job(job: forebay.Job, one: Local) -> Local:
        seen.append(job.payload)
        return Local(one.at)

    functions: dict[str, Any] = {
        "plain": plain,
        "decorated": decorated(plain),
        "object": Called(),
        "class": Called,
        "method": Methods().method,
        "classmethod": Methods.of_class,
        "static": Methods.of_nobody,
        "partial": functools.partial(plain, two=None),
        "lambda": lambda one: one,
    }
    tasks = [d.handler(kind=kind)(function) for kind, function in functions.items()]
    d.start()
    for task in tasks[:-1]:
        assert task.push(value).result(LIMIT) == value, task.kind
        assert task.push(one=value).result(LIMIT) == value, task.kind
    with pytest.raises(forebay.EncodeError, match="a Local cannot be written"):
        tasks[-1].push(value)
    assert with_job.push(value).result(LIMIT) == value
    assert seen == [{"args": [{"at": "2026-01-01"}], "kwargs": {}}]


def test_what_cannot_be_resolved_is_as_if_it_were_not_there(opened: Opened) -> None:
    d = opened(by_reference=False)

    @d.handler
    def task(whole: Fraction, day: date, nobody: Nowhere) -> Fraction:  # type: ignore[name-defined]  # noqa: F821
        return whole

    d.start()
    assert task.push([1, 2], date(2026, 1, 1), {"a": 1}).result(LIMIT) == [1, 2]  # type: ignore[arg-type]
    text = r"\$\.args\[2\]\[0\] \(parameter 'nobody'\): a Decimal .*; its annotation 'Nowhere' cannot be"
    with pytest.raises(forebay.EncodeError, match=text):
        task.push(1, date(2026, 1, 1), [Decimal(1)])  # type: ignore[arg-type]


def test_by_reference_nothing_is_touched(d: Dispatcher, tmp_path: Path) -> None:
    seen: list[Any] = []

    @d.handler
    def task(order: Order) -> Order:
        seen.append(order)
        return order

    order: Any = object()
    handle = task.push(order)
    d.start()
    assert handle.result(LIMIT) is order
    assert seen == [order]


def test_a_keyed_push_is_compared_by_what_is_written(d: Dispatcher) -> None:
    @d.handler
    def task(colours: set[str], at: Decimal) -> None: ...

    keyed = task.options(key="k")
    first = keyed.push({"a", "b", "c"}, Decimal("1.0"))
    assert keyed.push({"c", "b", "a"}, Decimal("1.0")).id == first.id
    with pytest.raises(forebay.KeyConflict):
        keyed.push({"c", "b"}, Decimal("1.0"))


def test_a_result_that_does_not_fit_is_a_failed_attempt(opened: Opened) -> None:
    d = opened(by_reference=False, max_attempts=1)

    @d.handler
    def task() -> dict[str, Item]:
        return {"a": "b"}  # type: ignore[dict-item]

    @d.handler
    def untyped():  # type: ignore[no-untyped-def]
        return Decimal(1)

    d.start()
    with pytest.raises(forebay.JobFailed, match=r"\$\.a \(the result\): expected Item, got a str"):
        task.push().result(LIMIT)
    with pytest.raises(
        forebay.JobFailed, match="a Decimal cannot be written as JSON: annotate the result, or"
    ):
        untyped.push().result(LIMIT)


def test_a_result_is_read_by_whoever_has_the_handler(opened: Opened, tmp_path: Path) -> None:
    url = tmp_path / "jobs.db"
    d = opened(url=url, concurrency=1)

    @d.handler
    def task(day: date) -> list[Item]:
        assert type(day) is date
        return [ITEM]

    d.start()
    handle = task.push(date(2026, 1, 1))
    assert handle.result(LIMIT) == [ITEM]
    assert handle.job().result == [{"name": "x", "price": "0.10", "colour": "red"}]
    d.stop()
    stranger = opened(url=url)
    with pytest.raises(forebay.EncodeError, match="a date cannot be written as JSON: annotate"):
        stranger.push("task", date(2026, 1, 1))


def test_a_newer_version_may_say_more(opened: Opened, tmp_path: Path) -> None:
    writer, d = opened(by_reference=False), opened()
    writer.handler(kind="task")(lambda item: None).push({"name": "x", "price": "1", "weight": 3})
    writer.dump(tmp_path / "dump")
    d.restore(tmp_path / "dump")
    seen: list[Item] = []

    @d.handler
    def task(item: Item) -> None:
        seen.append(item)

    d.start()
    d.drain(LIMIT)
    assert seen == [Item(name="x", price=Decimal(1))], "and may leave out what has a default"


def test_cycles_and_depth_are_refused(opened: Opened) -> None:
    d = opened(by_reference=False)

    @d.handler
    def task(tree: Tree) -> None: ...

    tree = Tree(1)
    tree.leaves.append(tree)
    with pytest.raises(forebay.EncodeError, match="contains itself, or is nested too deeply"):
        task.push(tree)


@dataclass
class Half:
    whole: int
    needed: dataclasses.InitVar[int]


def test_a_class_that_cannot_be_made_again_is_refused(opened: Opened) -> None:
    d = opened(by_reference=False)

    @d.handler
    def task(half: Half) -> None: ...

    with pytest.raises(forebay.EncodeError, match="a Half cannot be written: needed is an InitVar"):
        task.push(Half(1, 2))


@dataclass
class Loose:
    at: date = None  # type: ignore[assignment]


def test_sloppy_defaults_are_taken(opened: Opened) -> None:
    d = opened(by_reference=False)

    @d.handler
    def task(one: Loose, two: Item = None) -> Any:  # type: ignore[assignment]
        return [one.at, two]

    d.start()
    assert task.push(Loose(), None).result(LIMIT) == [None, None]


def test_annotations_that_say_nothing_cost_nothing(opened: Opened) -> None:
    code = """
import sys, forebay
with forebay.Dispatcher(by_reference=False) as d:
    @d.handler
    def task(a: int, b: "str | None" = None, *c: float, **d: dict[str, object]) -> list[int | None]:
        return [a]
    assert task.push(1, b="x").result(60) == [1]
print("forebay._typed" in sys.modules, "decimal" in sys.modules)
"""
    assert run(code) == (0, "False False\n", "")
