"""Links that lead out of the folder of the pages: right in the repository, and nowhere on the site."""

from __future__ import annotations

import re
from typing import Any

_OUT = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?:examples|benches|README)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text of a page, in which such links are only their words."""
    return _OUT.sub(r"\1", markdown)
