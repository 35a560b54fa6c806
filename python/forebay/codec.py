"""The protocol of codecs: what payloads and results are written with where they leave the process."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Codec(Protocol):
    """What payloads and results are written with, and read, where they leave the process.

    Give an object like this as `codec=` to a dispatcher or a handler. Its methods are called on the threads
    that push and on those that run handlers, several at once. What they raise becomes an EncodeError or a
    DecodeError.
    """

    @property
    def content_type(self) -> str:
        """What the bytes are, as a MIME type such as "application/cbor". It is kept with them."""

    def encode(self, value: Any, /) -> bytes:
        """Writes a value.

        Values of parameters with an annotation come as dicts with text for keys, lists, text, numbers,
        booleans and None; the others as they are.
        """

    def decode(self, data: bytes, /) -> Any:
        """Reads what `encode` has written."""
