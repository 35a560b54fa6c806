"""A small shop: an order is confirmed by mail, and a reminder follows a day later."""

from __future__ import annotations

import forebay

d = forebay.Dispatcher(max_attempts=3, retry="constant(1m)")
outbox: list[str] = []


@d.handler
def send_mail(to: str, subject: str) -> None:
    """Sends a mail; an address without an @ is refused."""
    if "@" not in to:
        raise ValueError(f"no address: {to}")
    outbox.append(f"{to}: {subject}")


def place_order(customer: str) -> None:
    """Takes an order."""
    send_mail.push(customer, subject="thank you")
    send_mail.options(delay="1d").push(customer, subject="how was it?")
