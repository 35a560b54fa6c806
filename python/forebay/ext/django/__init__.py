"""Django: jobs that are declared in the `jobs.py` of an app, a worker as a command, pushes after the commit.

    INSTALLED_APPS = [..., "forebay.ext.django", "shop"]
    FOREBAY = {"default": {"URL": f"sqlite:{BASE_DIR / 'jobs.db'}", "OPTIONS": {"shared": True}}}

    # shop/jobs.py, which is found by itself
    from forebay.ext.django import job

    @job(max_attempts=5)
    def send_receipt(order_id: int) -> None:
        mail(Order.objects.get(pk=order_id))

    # shop/views.py
    with transaction.atomic():
        order = Order.objects.create(...)
        push_on_commit(send_receipt, order.pk)

    $ python manage.py forebay_worker

Each alias of the setting FOREBAY says:

* `URL`: what is opened; it has to be said. The file is Forebay's own, not that of a database of Django's.
* `OPTIONS`: a dict of the options of `forebay.Dispatcher`.
* `START`: whether the processes that serve requests run jobs as well. If left out they do, unless the options
  say `shared`: then `manage.py forebay_worker` does.

The dispatcher of an alias is opened, in each process for itself, when somebody first asks for it, so a server
may fork before. Around each attempt the database connections of its thread are treated as around a request:
those that are too old or broken are closed. `manage.py check` tells what is wrong with the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from django.db import transaction

from forebay.ext._tasks import JobTask, P, R, Register, RegisterWithJob, Task, declared
from forebay.ext.django import _settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager
    from typing import Unpack

    from forebay._types import KindOptions
    from forebay.dispatcher import Dispatcher

__all__ = ["JobTask", "Task", "dispatcher", "job", "override_dispatcher", "push_on_commit"]


def dispatcher(using: str = "default") -> Dispatcher:
    """The dispatcher of an alias of the setting FOREBAY, in this process.

    Raises:
        ImproperlyConfigured: There is no such alias, or it is not right.
    """
    return _settings.home(using).dispatcher()


def push_on_commit(task: Task[P, Any, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Pushes a job when the transaction of the default database commits; at once if there is none.

    If it is rolled back nothing is pushed. Options come with the task:
    `push_on_commit(send_receipt.options(delay=60), order.pk)`.

    Two stores are written, one after the other, and nothing joins them. The job is lost, and the row stays,
    if the process dies between the commit and the push; and if the push is refused, because the queue is full
    or the file cannot be written, which is raised where the transaction ends and leaves out what else was to
    follow the commit. Where that matters let the row itself say that its job is still owed, and have
    something that comes by regularly push what is: with `key=f"receipt-{order.pk}"`, in both places, the
    second push of a job finds the first one.

    For another database say `transaction.on_commit(lambda: task.push(...), using="other")`. In a `TestCase`
    of Django's nothing commits: push within `self.captureOnCommitCallbacks(execute=True)`.
    """
    transaction.on_commit(lambda: task.push(*args, **kwargs))


def override_dispatcher(dispatcher: Dispatcher, using: str = "default") -> AbstractContextManager[Dispatcher]:
    """Has all who ask for an alias use this dispatcher, for the time of a block: that of a test.

        with Stage() as stage, override_dispatcher(stage.dispatcher):
            client.post("/orders", ...)
            stage.assert_enqueued(send_receipt)

    It gets all the jobs that are declared for the alias, and is neither started nor stopped.
    """
    return _settings.home(using, known=False).instead(_settings.equipped(dispatcher))


@overload
def job(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
@overload
def job(function: Callable[P, R], /) -> Task[P, R, R]: ...
@overload
def job(
    function: None = None,
    /,
    *,
    using: str = "default",
    kind: str | None = None,
    pass_job: Literal[False] = False,
    **options: Unpack[KindOptions],
) -> Register: ...
@overload
def job(
    function: None = None,
    /,
    *,
    using: str = "default",
    kind: str | None = None,
    pass_job: Literal[True],
    **options: Unpack[KindOptions],
) -> RegisterWithJob: ...
def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    using: str = "default",
    kind: str | None = None,
    pass_job: bool = False,
    **options: Unpack[KindOptions],
) -> Any:
    """Declares a function as a handler; see `forebay.Dispatcher.handler`.

    Args:
        function: What runs the jobs; left out when this is called with options.
        using: The alias of the dispatcher.
        kind: The kind of its jobs. If left out it is the module without `.jobs`, and the name:
            "shop.send_receipt". Jobs that wait keep theirs when the function is called otherwise one day.
        pass_job: Whether the function takes its `forebay.Job` first.
        **options: What holds for its kind.
    """

    def register(function: Callable[..., Any]) -> Task[..., Any, Any]:
        name = kind if kind is not None else _kind(function)
        return declared(_settings.tasks(using), lambda: dispatcher(using), function, name, pass_job, options)

    return register if function is None else register(function)


def _kind(function: Callable[..., Any]) -> str:
    return f"{function.__module__.removesuffix('.jobs')}.{function.__name__}"
