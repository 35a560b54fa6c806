"""Writes C that calls every function of forebay.h with NULL in every place: see tests/c/nulls.c.

A place is a parameter, or a field of a struct that a parameter points to. Each row of the table puts NULL
into one place and what is right into all others, and says what must come of it: where the header says "may be
NULL" any code but FBY_E_INVALID, elsewhere that one. Bytes are tried with NULL and a length, which is
FBY_E_INVALID, and with NULL and none, which is empty. A row with nothing wrong shows that the others fail for
their NULL.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import header
from header import Header, Item, Value

# What is right for a parameter: of one function, by its name, or by its type. `s` is the stage.
RIGHT: dict[str, str] = {
    "fby_open.url": 'fby_str("memory:")',
    "fby_options_set.name": 'fby_str("capacity")',
    "fby_options_set.value": 'fby_str("7")',
    "fby_queue_option.name": 'fby_str("capacity")',
    "fby_queue_option.value": 'fby_str("7")',
    "fby_forward.url": 'fby_str("memory:")',
    "fby_forward.options": "bytes(NULL, 0)",
    "fby_id_parse.text": 'fby_str("01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e")',
    "fby_extend.lease_ms": "1000",
    "path": "fby_str(s->path)",
    "cap": "sizeof s->text",
    "count": "1",
    "kind_count": "1",
    "max": "1",
    "capacity": "16",
    "index": "0",
    "tag": "7",
    "user_data": "s",
    "fby_bytes": 'fby_str("k")',
    "const fby_bytes *": "&s->name",
    "fby_handler": "s->handler",
    "fby_drop": "s->drop",
    "fby_logger": "s->logger",
    "fby_level": "FBY_LEVEL_WARN",
    "fby_event_kind": "FBY_EVENT_PUSHED",
    "fby_ticket": "s->ticket",
    "fby_status": "FBY_OK",
    "fby_state": "FBY_STATE_QUEUED",
    "fby_stop_reason": "0",
    "int64_t": "0",
    "char *": "s->text",
}
# Handles of what belongs to the process that made it.
BOUND = {f"fby_{kind} *" for kind in ("dispatcher", "consumer", "forwarder", "watcher", "events")}
# What a struct of its type needs beside its size.
FILLED = {"fby_job_spec": '{0}.kind = fby_str("k");', "fby_outcome": "{0}.ticket = s->ticket;"}


def main() -> None:
    """Writes the rows."""
    head = header.read()
    rows = [row for function in head.functions() for row in Rows(head, function).all()]
    print('#include "nulls.h"\n')
    for number, row in enumerate(rows):
        print(f"static fby_status row_{number}(stage *s, fby_error **err) {{\n    {row.body}\n}}\n")
    print("const null_row null_rows[] = {")
    for number, row in enumerate(rows):
        print(f'    {{"{row.function}", "{row.place}", {row.want}, {row.bound}, row_{number}}},')
    print("};\nconst size_t null_row_count = sizeof null_rows / sizeof null_rows[0];")


class Row:
    """One call."""

    def __init__(self, function: Item, place: str, want: str, body: list[str]) -> None:
        """A call of `function` with something wrong at `place`, and what must come of it."""
        self.function = function.name
        takes = {parameter.type.removeprefix("const ") for parameter in function.values}
        self.bound = "true" if takes & BOUND else "false"
        self.place = place
        self.want = want
        self.body = "\n    ".join(body)


class Rows:
    """The calls of one function."""

    def __init__(self, head: Header, function: Item) -> None:
        """The function, and the header that tells what its parameters are."""
        self.function = function
        self.structs = {item.name: item for item in head.items if item.sort == "struct"}
        self.opaque = {item.name for item in head.items if item.sort == "opaque"}

    def all(self) -> Iterator[Row]:
        """Each place in turn, all at once, and at last none: what is freed there is freed last."""
        nothing = {parameter.name: "NULL" for parameter in self.function.values if is_pointer(parameter.type)}
        for parameter in self.function.values:
            want = "NOT_INVALID" if self.may_be_null(parameter) else "INVALID_CODE"
            if is_pointer(parameter.type):
                yield self.row(parameter.name, want, {parameter.name: "NULL"})
            if parameter.type == "fby_bytes":
                yield self.row(
                    f"{parameter.name} with a length", "INVALID_CODE", {parameter.name: "bytes(NULL, 1)"}
                )
                yield self.row(f"{parameter.name}, empty", "ANY_CODE", {parameter.name: "bytes(NULL, 0)"})
            yield from self.fields(parameter)
        if nothing:
            yield self.row("all", "ANY_CODE", nothing)
        if not self.frees():
            yield self.row("nothing", "NOT_INVALID", {})

    def fields(self, parameter: Value) -> Iterator[Row]:
        """NULL in each field of a struct that the function reads."""
        struct = self.structs.get(parameter.type.removeprefix("const ").removesuffix(" *"))
        if (
            struct is None
            or not parameter.type.startswith("const ")
            or struct.values[0].name != "struct_size"
        ):
            return
        for field, after in zip(struct.values, [*struct.values[1:], struct.values[0]], strict=True):
            place = f"{parameter.name}->{field.name}"
            if field.type == "fby_bytes":
                for length, want in (("1", "INVALID_CODE"), ("0", "ANY_CODE")):
                    change = f"{parameter.name}.{field.name} = bytes(NULL, {length});"
                    yield self.row(f"{place} with {length}", want, {}, change)
            elif is_pointer(field.type):
                change = f"{parameter.name}.{after.name} = 1;"
                yield self.row(f"{place} with {after.name} 1", "INVALID_CODE", {}, change)

    def row(self, place: str, want: str, wrong: dict[str, str], change: str = "") -> Row:
        """A call with some parameters wrong, or with a change of what one of them points to."""
        before: list[str] = ["(void)s, (void)err;"]
        after: list[str] = []
        arguments = [
            wrong[parameter.name] if parameter.name in wrong else self.right(parameter, before, after)
            for parameter in self.function.values
        ]
        call = f"{self.function.name}({', '.join(arguments)})"
        before += [change] if change else []
        returns = self.function.returns
        if self.function.values and self.function.values[-1].name == "err":
            return Row(
                self.function,
                place,
                want,
                [*before, f"fby_status status = {call};", *after, "return status;"],
            )
        made = returns.removesuffix(" *")
        call = f"{freer(made)}({call})" if made in self.opaque and returns.endswith("*") else call
        return Row(self.function, place, "NO_CODE", [*before, f"(void){call};", *after, "return FBY_OK;"])

    def right(self, parameter: Value, before: list[str], after: list[str]) -> str:
        """What is right for a parameter; what must be declared and freed for it is added."""
        name, kind = parameter.name, parameter.type
        pointed = kind.removeprefix("const ").rstrip("*").strip()
        for key in (f"{self.function.name}.{name}", name, kind):
            if key in RIGHT and not (key == "count" and is_pointer(kind)):
                return RIGHT[key]
        if name == "err":
            return "err"
        if kind.endswith("**"):
            before.append(f"{pointed} *{name} = NULL;")
            after.append(f"{freer(pointed)}({name});")
            return f"&{name}"
        if pointed in self.opaque:
            return f"s->{pointed.removeprefix('fby_')}"
        if name.endswith("_size"):
            return f"sizeof({self.element(parameter)})"
        if kind.endswith(" *"):
            before += self.made(name, pointed)
            return f"&{name}"
        sys.exit(f"nulls.py: what is right for {self.function.name}({kind} {name})? Add it to RIGHT.")

    def made(self, name: str, kind: str) -> list[str]:
        """A local variable that a parameter may point to."""
        struct = self.structs.get(kind)
        if kind == "fby_id":
            return [f"fby_id {name} = s->id;"]
        if struct is None:
            return [f"{kind} {name} = 0;"]
        if struct.values[0].name != "struct_size":
            return [f"{kind} {name};"]
        filled = [FILLED[kind].format(name)] if kind in FILLED else []
        return [f"{kind} {name} = FBY_INIT({kind});", *filled]

    def element(self, size: Value) -> str:
        """The type of the elements of the array whose element size a parameter is: the array before it."""
        before = self.function.values[: self.function.values.index(size)]
        kinds = [parameter.type.removeprefix("const ").removesuffix(" *") for parameter in before]
        return next(kind for kind in reversed(kinds) if kind in self.structs)

    def may_be_null(self, parameter: Value) -> bool:
        """Whether the header says so."""
        if parameter.name in ("err", "user_data"):
            return True
        for part in self.function.section("Parameters").split(";"):
            if re.match(rf"\s*{parameter.name}\b", part):
                return "may be NULL" in part
        return False

    def frees(self) -> bool:
        """Whether the function takes what the stage still needs."""
        return self.function.name.endswith(("_free", "fby_release", "fby_retain"))


def is_pointer(kind: str) -> bool:
    """Whether a type is one, or a function."""
    return kind.endswith("*") or kind in ("fby_handler", "fby_drop", "fby_logger")


def freer(kind: str) -> str:
    """What frees a handle."""
    return "fby_release" if kind == "fby_dispatcher" else f"{kind}_free"


if __name__ == "__main__":
    main()
