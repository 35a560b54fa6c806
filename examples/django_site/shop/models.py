"""What the database keeps."""

from django.db import models


class Order(models.Model):
    """An order, and whether its receipt has been sent."""

    item = models.CharField(max_length=50)
    receipt = models.BooleanField(default=False)
