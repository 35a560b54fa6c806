"""The reference part of docs/c-api.md, made from forebay.h: `make -C cbind reference` writes it.

With --check nothing is written. What has no comment, lacks a section, or belongs to no topic is a fault
either way.
"""

from __future__ import annotations

import re
import sys
import textwrap
from fnmatch import fnmatchcase
from pathlib import Path

import header
from header import Item

PAGE = Path(__file__).resolve().parents[2] / "docs" / "c-api.md"
MARK = "<!-- From here on generated from cbind/include/forebay.h by make -C cbind reference; do not edit -->"

# Every item of the header belongs to the first topic that has a pattern for it.
TOPICS: list[tuple[str, list[str]]] = [
    ("Versions", ["FBY_VERSION_*", "FBY_ABI_VERSION", "fby_version*", "fby_abi_version"]),
    ("Errors", ["fby_status*", "fby_error*"]),
    ("Bytes, ids and structs", ["FBY_INIT", "fby_bytes", "fby_str", "fby_buffer*", "fby_id*"]),
    (
        "Opening, starting and stopping",
        [
            "fby_option*",
            "fby_dispatcher",
            "fby_open",
            "fby_retain",
            "fby_release",
            "fby_start",
            "fby_drain",
            "fby_flush",
            "fby_request_stop",
            "fby_stop",
            "fby_stop_report",
        ],
    ),
    (
        "Pushing",
        [
            "fby_job_spec",
            "fby_header",
            "fby_durability",
            "fby_push*",
            "FBY_DEFAULT",
            "FBY_UNLIMITED",
            "fby_signal",
        ],
    ),
    (
        "Handlers",
        [
            "fby_handler",
            "fby_drop",
            "fby_kind_options",
            "fby_register",
            "fby_unregister",
            "fby_declare",
            "fby_verdict",
            "fby_reply*",
        ],
    ),
    (
        "Deliveries: consumers and tickets",
        [
            "fby_job",
            "fby_job_header",
            "fby_ticket",
            "fby_consumer*",
            "fby_poll",
            "fby_stopped",
            "fby_outcome",
            "fby_finish*",
            "fby_extend",
            "fby_cancelled",
            "fby_wait_stop",
            "fby_stop_reason",
        ],
    ),
    (
        "Waiting and watching",
        ["FBY_FOREVER", "fby_wait", "fby_state*", "fby_job_*", "fby_watcher*", "fby_end", "fby_shed"],
    ),
    (
        "Looking at jobs and changing them",
        ["fby_get", "fby_list", "fby_filter", "fby_explain", "fby_cancel", "fby_retry"],
    ),
    (
        "Queues",
        [
            "fby_queue_*",
            "fby_pressure",
            "fby_len",
            "fby_explain_queue",
            "fby_pause",
            "fby_resume",
            "fby_purge",
            "fby_stats*",
        ],
    ),
    ("Forwarding", ["fby_forward*"]),
    ("Events and the log", ["fby_event*", "fby_level*", "fby_log*"]),
    ("Dump and restore", ["fby_dump*", "fby_restore"]),
    ("Tests with a manual clock", ["fby_now", "fby_advance"]),
]


def topic_of(name: str) -> str | None:
    """The topic an item belongs to."""
    for topic, patterns in TOPICS:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return topic
    return None


def faults(items: list[Item]) -> list[str]:
    """What the header does not say, or this page would not show."""
    found = [f"{item.name} has no comment" for item in items if not item.prose()]
    for item in items:
        if item.sort in ("struct", "type"):
            found += [f"{item.name}: {value.name} has no comment" for value in item.values if not value.text]
        if item.sort == "function":
            found += [f"{item.name}: {fault}" for fault in lacks(item)]
        if topic_of(item.name) is None:
            found.append(f"{item.name} belongs to no topic of cbind/tools/reference.py")
    known = {item.name for item in items} | {value.name for item in items for value in item.values}
    for item in items:
        said = [item.text, *(value.text for value in item.values)]
        words = re.findall(r"\b(?:fby|FBY)_\w+", " ".join(said))
        found += [
            f"{item.name} tells of {word}, which there is not" for word in words if is_lost(word, known)
        ]
    return found


def is_lost(word: str, known: set[str]) -> bool:
    """Whether a comment names something that there is not; FBY_E_ stands for all that begin so."""
    return word not in known and not word.endswith("_")


def lacks(function: Item) -> list[str]:
    """What the comment of a function does not tell."""
    found = ["no line Threads"] if not function.section("Threads") else []
    if function.returns != "void" and not function.section("Returns"):
        found.append("no line Returns")
    told = set(re.findall(r"\w+", function.section("Parameters")))
    found += [
        f"Parameters do not tell of {parameter.name}"
        for parameter in function.values
        if parameter.name not in told and parameter.name != "err"
    ]
    return found


def page(head: str, items: list[Item]) -> str:
    """The whole page."""
    names = {item.name for item in items if item.sort != "constant"}
    topics = [topic for topic, _ in TOPICS if any(topic_of(item.name) == topic for item in items)]
    contents = [f"- [{topic}](#{anchor(topic)}): {links_of(items, topic)}" for topic in topics]
    parts = [head.rstrip(), MARK, "## Reference", "\n".join(wrapped(line, "  ") for line in contents)]
    for topic in topics:
        here = [item for item in items if topic_of(item.name) == topic]
        constants = [item for item in here if item.sort == "constant"]
        parts.append(f"### {topic}")
        if constants:
            parts.append(table("constant", [(c.name, c.code, c.text) for c in constants], names))
        parts += [shown(item, names) for item in here if item.sort != "constant"]
    return "\n\n".join(parts) + "\n"


def links_of(items: list[Item], topic: str) -> str:
    """The items of a topic, to click at."""
    here = [item for item in items if topic_of(item.name) == topic]
    return ", ".join(i.name if i.sort == "constant" else f"[{i.name}](#{i.name})" for i in here)


def anchor(title: str) -> str:
    """What a heading is called in links."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def shown(item: Item, names: set[str]) -> str:
    """One item: its heading, its code, its text, its values."""
    parts = [f"#### {item.name}"]
    if item.sort != "struct":
        parts.append(f"```c\n{item.code}\n```")
    parts.append(wrapped(marked(item.prose(), names - {item.name})))
    sections = [(name, item.section(name)) for name in header.SECTIONS if item.section(name)]
    if sections:
        lines = [wrapped(f"- **{name}:** {marked(text, names)}", "  ") for name, text in sections]
        parts.append("\n".join(lines))
    if item.sort == "struct" or (item.sort == "type" and item.values):
        what = "field" if item.sort == "struct" else "constant"
        parts.append(table(what, [(v.name, v.type, v.text) for v in item.values], names))
    return "\n\n".join(parts)


def table(what: str, rows: list[tuple[str, str, str]], names: set[str]) -> str:
    """Named values, one a row."""
    kind = "type" if what == "field" else "value"
    lines = [f"| `{name}` | `{value}` | {marked(text, names)} |" for name, value, text in rows]
    return "\n".join([f"| {what} | {kind} | meaning |", "|---|---|---|", *lines])


def marked(text: str, names: set[str]) -> str:
    """A comment as Markdown: names are code, and those of items lead there."""

    def name(match: re.Match[str]) -> str:
        word = match[0]
        return f"[`{word}`](#{word.removesuffix('()')})" if word.removesuffix("()") in names else f"`{word}`"

    text = re.sub(r"([*<>|])", r"\\\1", text)
    text = re.sub(r"`([^`]*)`", r"\1", text)
    return re.sub(r"\b(?:fby|FBY)_\w+(?:\(\))?", name, text)


def wrapped(text: str, indent: str = "") -> str:
    """Lines of at most 110 characters where words allow it."""
    return textwrap.fill(text, 110, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main() -> int:
    """Writes the page, or checks it."""
    items = header.read().items
    found = faults(items)
    committed = PAGE.read_text()
    head, mark, _ = committed.partition(MARK)
    if not mark:
        found.append(f"docs/c-api.md lacks the line {MARK}")
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        return 1
    fresh = page(head, items)
    if "--check" in sys.argv:
        if fresh != committed:
            print("docs/c-api.md is not fresh: make -C cbind reference", file=sys.stderr)
        return int(fresh != committed)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
