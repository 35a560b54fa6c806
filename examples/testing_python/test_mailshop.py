"""The tests of the shop: no thread, no waiting, no file."""

from __future__ import annotations

from collections.abc import Iterator

import mailshop
import pytest
from forebay.testing import Stage, replace


@pytest.fixture
def stage() -> Iterator[Stage]:
    with replace(mailshop.d) as stage:
        mailshop.outbox.clear()
        yield stage


def test_an_order_is_confirmed_and_followed_up(stage: Stage) -> None:
    mailshop.place_order("ann@example.com")
    stage.assert_enqueued(mailshop.send_mail, to="ann@example.com", subject="how was it?", delay=86_400)
    assert stage.drain(raise_failures=True).left == 1
    assert mailshop.outbox == ["ann@example.com: thank you"]
    stage.advance("1d")
    assert stage.drain().succeeded == 1
    assert len(mailshop.outbox) == 2


def test_a_bad_address_is_tried_three_times(stage: Stage) -> None:
    mailshop.send_mail.push("nowhere", subject="hi")
    report = stage.drain(scheduled=True)
    assert (report.retried, report.failed) == (2, 1)
