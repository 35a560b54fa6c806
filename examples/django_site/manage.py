"""A shop in Django that sends receipts once the order is in the database, and never in the request.

pip install django
python manage.py migrate --run-syncdb
python manage.py forebay_worker &       # as many as you like: they share the file
python manage.py runserver
curl -X POST localhost:8000/orders/17   -> 202 {"order": 1}
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
