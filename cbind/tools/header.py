"""Reads forebay.h: its items with what their comments say. Knows the layout of cbindgen, and no other C."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "include" / "forebay.h"

# The sections that a function's comment ends with.
SECTIONS = ("Parameters", "Returns", "Memory", "Threads")


@dataclass
class Value:
    """A named value of an item: a field, a parameter, a constant."""

    name: str
    type: str
    text: str = ""


@dataclass
class Item:
    """One thing that the header declares."""

    # "constant", "opaque", "type", "struct", "callback" or "function".
    sort: str
    name: str
    # As C has it, without the comments.
    code: str
    text: str
    # Fields of a struct, parameters of a function, constants of a type.
    values: list[Value] = field(default_factory=list)
    # What a function answers.
    returns: str = ""

    def section(self, name: str) -> str:
        """What the comment says under a heading such as "Returns"; empty if nothing."""
        return _sections(self.text).get(name, "")

    def prose(self) -> str:
        """The comment without its sections."""
        return _sections(self.text)[""]


class Header:
    """All items of a header, in its order."""

    def __init__(self, text: str) -> None:
        """Reads the text of a header."""
        self.items: list[Item] = []
        self._constants: dict[str, list[Value]] = {}
        self._read(text.splitlines())
        for item in self.items:
            if item.sort == "type":
                item.values = self._constants.pop(item.name, [])
        if self._constants:
            raise ValueError(f"constants of no type: {', '.join(self._constants)}")

    def functions(self) -> list[Item]:
        """The functions, without those that the header itself defines."""
        return [item for item in self.items if item.sort == "function" and "inline" not in item.code]

    def _read(self, lines: list[str]) -> None:
        comment: list[str] = []
        at = 0
        while at < len(lines):
            line = lines[at]
            if line.startswith("//"):
                comment.append(line[2:].strip())
                at += 1
            elif line.startswith("/*"):
                comment, at = _block(lines, at)
            elif line.startswith("enum {"):
                at = self._enum(lines, at, " ".join(comment))
            elif line.startswith("#define FBY_"):
                self._define(line, comment)
                at += 1
            elif line.startswith(("typedef ", "FBY_API", "static inline ")):
                at = self._declaration(lines, at, comment)
            else:
                # A comment stands right before what it is about.
                comment = [] if not line.startswith("#") else comment
                at += 1

    def _define(self, line: str, comment: list[str]) -> None:
        name, _, value = line.removeprefix("#define ").partition(" ")
        known = any(item.name == name.split("(")[0] for item in self.items)
        # What the compiler is told, and the second form of a macro, are no items.
        if name != "FBY_API" and not known:
            shown = name if "(" in name else value.strip("()")
            self.items.append(Item("constant", name.split("(")[0], shown, " ".join(comment)))

    def _enum(self, lines: list[str], at: int, comment: str) -> int:
        end = next(i for i in range(at, len(lines)) if lines[i].startswith("};"))
        body = "\n".join(lines[at + 1 : end])
        entry = re.compile(r"(FBY_\w+) = (-?\d+)(?:,|\s)*(?:/\*(.*?)\*/)?", re.S)
        found = [Value(name, value, " ".join(text.split())) for name, value, text in entry.findall(body)]
        self._constants[re.split(r"[.;: ]", comment)[0]] = found
        return end + 1

    def _declaration(self, lines: list[str], at: int, comment: list[str]) -> int:
        struct = re.match(r"typedef struct \w+ \{", lines[at])
        inline = lines[at].startswith("static inline")
        last = "}" if struct or inline else ";"
        end = at
        while not (lines[end].startswith("}") if last == "}" else lines[end].endswith(";")):
            end += 1
        code = "\n".join(lines[at : end + 1])
        self.items.append(_item(code, "\n".join(comment)))
        return end + 1


def read() -> Header:
    """The committed header."""
    return Header(PATH.read_text())


def _block(lines: list[str], at: int) -> tuple[list[str], int]:
    """The text of a block comment, and the line after it."""
    end = next(i for i in range(at, len(lines)) if lines[i].endswith("*/"))
    text = "\n".join(lines[at : end + 1]).removeprefix("/*").removesuffix("*/")
    return [line.strip().removeprefix("*").strip() for line in text.splitlines()], end + 1


def _sections(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {"": []}
    now = ""
    for line in text.splitlines():
        head, colon, rest = line.partition(":")
        if colon and head in SECTIONS:
            now, line = head, rest
            found[now] = []
        found[now].append(line.strip())
    return {name: " ".join(lines).strip() for name, lines in found.items()}


def _item(code: str, text: str) -> Item:
    flat = " ".join(code.removeprefix("FBY_API").split())
    if match := re.match(r"typedef struct (\w+) \1;", flat):
        return Item("opaque", match[1], flat, text)
    if match := re.match(r"typedef struct (\w+) \{", flat):
        return Item("struct", match[1], code, text, _fields(code))
    if match := re.match(r"typedef (.*?)\(\*(\w+)\)\((.*)\);", flat):
        return Item("callback", match[2], code, text, _parameters(match[3]), _plain(match[1]))
    if match := re.match(r"typedef (\w+) (\w+);", flat):
        return Item("type", match[2], flat, text)
    if match := re.match(r"(?:static inline )?(.*?[ *])(\w+)\((.*?)\)(?:;| \{)", flat):
        shown = code.removeprefix("FBY_API").strip()
        if "inline" in flat:
            shown = shown.split(" {")[0] + ";"
        return Item("function", match[2], shown, text, _parameters(match[3]), _plain(match[1]))
    raise ValueError(f"this is not understood: {code}")


def _fields(code: str) -> list[Value]:
    fields: list[Value] = []
    text: list[str] = []
    for line in code.splitlines()[1:-1]:
        line = line.strip()
        if line.startswith("//"):
            text.append(line[2:].strip())
        else:
            fields.append(_value(line.rstrip(";"), " ".join(text)))
            text = []
    return fields


def _parameters(text: str) -> list[Value]:
    return [] if text in ("", "void") else [_value(one.strip()) for one in text.split(",")]


def _value(declared: str, text: str = "") -> Value:
    match = re.match(r"(.*?[ *])(\w+)(\[\d+\])?$", declared)
    if not match:
        raise ValueError(f"this is not understood: {declared}")
    return Value(match[2], _plain(match[1]) + (match[3] or ""), text)


def _plain(kind: str) -> str:
    """A type as C++ and the texts have it."""
    return kind.strip().replace("struct ", "")
