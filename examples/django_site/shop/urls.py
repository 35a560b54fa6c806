"""What the shop answers."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from forebay.ext.django import push_on_commit

from shop.jobs import send_receipt
from shop.models import Order


@csrf_exempt
@transaction.atomic
def accept(request: HttpRequest, item: str) -> JsonResponse:
    """The receipt is a job once the order is committed: of an order that is rolled back there is none."""
    order = Order.objects.create(item=item)
    push_on_commit(send_receipt, order.pk)
    if item == "dynamite":
        raise ValueError("not to you")
    return JsonResponse({"order": order.pk}, status=202)


def show(request: HttpRequest, pk: int) -> JsonResponse:
    """Whether the receipt has been sent."""
    return JsonResponse({"receipt": Order.objects.get(pk=pk).receipt})


urlpatterns = [path("orders/<int:pk>", show), path("orders/<str:item>", accept)]
