"""The settings; what concerns jobs is at the end."""

import os
from pathlib import Path

DATA = Path(os.environ.get("SHOP_DATA", Path(__file__).parent))
SECRET_KEY = os.environ.get("SHOP_SECRET", "only for trying it out")
DEBUG = "SHOP_SECRET" not in os.environ
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "shop.sqlite3",
        # Writers wait for each other instead of failing half way.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
INSTALLED_APPS = ["forebay.ext.django", "shop"]

FOREBAY = {
    "default": {
        "URL": f"sqlite:{DATA / 'jobs.db'}",
        # The web server pushes, the workers run.
        "OPTIONS": {"shared": True, "retry": "exponential(1s, cap=5m, jitter=0.1)"},
    }
}
