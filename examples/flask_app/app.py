"""A service in Flask that welcomes users in its own time, and again if the mail server is away.

    pip install flask
    flask run                           # requests; and, as nothing else shares the file, the jobs as well
    curl -X POST localhost:5000/users/ann
    flask forebay stats                 # asks the server that is running

With FOREBAY_OPTIONS={"shared": True} the jobs are run by `flask forebay worker`, as many of them as you like.
"""

import os

from flask import Flask, current_app
from forebay.ext.flask import Forebay

forebay = Forebay()


@forebay.task(max_attempts=8, retry="exponential(100ms, cap=1m, jitter=0.1)")
def welcome(user: str) -> None:
    """What is slow, or fails now and then: here a line in a file that the config names."""
    with open(current_app.config["WELCOMED"], "a") as file:
        file.write(f"{user}\n")


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_prefixed_env("SHOP")
    app.config.setdefault("WELCOMED", "welcomed.txt")
    app.config["FOREBAY_URL"] = os.environ.get("JOBS", "sqlite:jobs.db")
    forebay.init_app(app)

    @app.post("/users/<user>")
    def register(user: str) -> tuple[dict[str, str], int]:
        handle = welcome.options(key=user).push(user)
        return {"id": str(handle.id)}, 202

    @app.get("/jobs/<id>")
    def status(id: str) -> dict[str, str]:
        return {"status": forebay.dispatcher.get(id).status}

    return app
