"""How a benchmark is ended: at once, for nobody goes on from half of one."""

import signal
from contextlib import nullcontext

from usersim.stopping import Stopping


def end_at_once() -> None:
    """SIGTERM ends this process as Ctrl-C does, with the processes that it waits for.

    A simulation inside does not take either for a request to finish its turns, which take minutes.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Stopping.on_signals = lambda _: nullcontext()  # type: ignore[method-assign, assignment]
