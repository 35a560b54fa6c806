"""The jobs of the shop: Forebay looks for a module of this name in every app."""

import logging

from forebay.ext.django import job

from shop.models import Order


@job(max_attempts=5, timeout=30)
def send_receipt(order_id: int) -> None:
    """It may run twice, when a worker dies in the middle: so it looks first whether it has been done."""
    order = Order.objects.get(pk=order_id)
    if not order.receipt:
        logging.warning("a receipt for %s", order.item)
        Order.objects.filter(pk=order_id).update(receipt=True)
