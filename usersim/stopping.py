"""Stopping on request: the first SIGINT or SIGTERM drains, a second one aborts.

Schedulers (systemd, Slurm) send their signal to every process of a tree, and a parent passes on
what it got: the same request comes twice, in either order. So a parent passes it on as a signal of
its own kind, which drains like the others and never aborts.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

PASSED_ON = signal.SIGUSR1
SIGNALS = (signal.SIGINT, signal.SIGTERM, PASSED_ON)


class Stopping:
    """Whether work was asked to stop."""

    def __init__(self) -> None:
        self.asked: str = ""
        """The signal that asked, or "" while nobody did."""
        self.abort: Callable[[], Any] = lambda: None
        """What a second signal does."""
        self._asked_directly = False

    def _asked_by(self, number: signal.Signals) -> None:
        if number != PASSED_ON:
            if self._asked_directly:
                self.abort()
            self._asked_directly = True
        if not self.asked:
            self.asked = number.name
            log.warning("%s: finishing the turns in flight; once more stops at once", number.name)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen while the block runs. Outside the main thread signals cannot be listened to."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number in SIGNALS:
                loop.add_signal_handler(number, self._asked_by, number)
        except (ValueError, RuntimeError):  # what asyncio says outside the main thread
            yield
            return
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])
