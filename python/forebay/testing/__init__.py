"""For the tests of programs that push jobs: a stage on which nothing happens by itself.

A `Stage` is a dispatcher in memory whose clock stands still. What a program pushes waits there until the test
says so, and then runs in the thread of the test, one job after the other, in the same order every time:

    from forebay.testing import replace

    from shop import d, place_order  # d = forebay.Dispatcher("sqlite:/var/lib/shop/jobs.db")


    def test_an_order_is_confirmed() -> None:
        with replace(d) as stage:
            place_order("ann@example.com")
            stage.assert_enqueued("send_mail", to="ann@example.com")
            report = stage.drain(raise_failures=True)
            assert (report.succeeded, report.left) == (1, 0)

`replace` puts the stage in the place of a dispatcher for the time of the block, for everybody who uses that
dispatcher or one of its handlers; the program is none the wiser. `redirect` is for programs that open a file
as soon as they are imported: it opens memory instead. With pytest both are there by themselves: fixtures
`forebay_stage` and `forebay_dispatcher`, the marker `forebay`, the options of pytest.ini `forebay_dispatcher`
and `forebay_in_memory`.

`crash` is for programs that rely on the file: it runs a function in a child process, kills that at a certain
point, and tells what had been acknowledged by then.

Everything here belongs to one thread, that of the test, unless it says otherwise.
"""

from forebay.testing._crash import Crashed, Point, crash, note
from forebay.testing._replace import redirect, replace
from forebay.testing._stage import DrainLimitError, Report, Run, Stage

__all__ = [
    "Crashed",
    "DrainLimitError",
    "Point",
    "Report",
    "Run",
    "Stage",
    "crash",
    "note",
    "redirect",
    "replace",
]
