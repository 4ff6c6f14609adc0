"""Stopping on request: the first SIGINT or SIGTERM drains, a second one aborts."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Whether work was asked to stop."""

    def __init__(self) -> None:
        self.asked: str = ""
        """The signal that asked, or "" while nobody did."""
        self.abort: Callable[[], Any] = lambda: None
        """What a second signal does."""

    def _asked_by(self, number: signal.Signals) -> None:
        if self.asked:
            self.abort()
            return
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
