"""The app."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules

from forebay.ext.django import _settings
from forebay.ext.django._bases import AppConfig


class ForebayConfig(AppConfig):
    """Finds the `jobs.py` of every installed app, and checks the settings."""

    name = "forebay.ext.django"
    label = "forebay"
    verbose_name = "Forebay"

    def ready(self) -> None:
        """Called once every app is loaded."""
        checks.register(_check)
        setting_changed.connect(_changed)
        autodiscover_modules("jobs")


def _check(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    return [checks.Error(text, id=f"forebay.{number}") for number, text in _settings.faults()]


def _changed(*, setting: str, **kwargs: Any) -> None:
    """A test says something else for its time."""
    if setting == "FOREBAY":
        _settings.forget()
