"""Admission in groups: new turns enter an engine's running batch together, not one by one.

A step that mixes the prompts of new turns into the decoding of others costs a CPU engine more than
its tokens say. Where it has places to spare, turns that wait for one another save most of those
steps (`make bench-simulate` says what that is worth). Whatever the group, nobody waits for the
longest reply: a group is complete as soon as enough have finished.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Lets turns into `slots` places, `group` of them at a time.

    A group is whole when `group` turns wait and have places, or half of all turns under way do: so
    that neither the beginning, nor the last conversations, nor a `group` above the number of turns
    ever stand still. While more turns are under way than there are places, a free place costs more
    than a mixed step, and is taken at once.
    """

    def __init__(self, slots: int, group: int = 1) -> None:
        self.slots, self.group = slots, max(1, min(group, slots))
        self.running = 0
        """Turns that are inside."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._due = False
        self._inside_s = self._open_s = 0.0
        self._changed: float | None = None

    @property
    def waiting(self) -> int:
        """Turns that wait to be let in."""
        return len(self._waiting)

    @property
    def occupancy(self) -> float:
        """Mean share of the places taken, over the time in which there was work."""
        self._count()
        return self._inside_s / (self.slots * self._open_s) if self._open_s else 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait to be let in; inside while the block runs."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(entered)
        self._soon()
        try:
            await entered
        except asyncio.CancelledError:
            if entered.cancelled():  # still outside
                self._waiting.remove(entered)
                self._soon()
            else:
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._count()
        self.running -= 1
        self._soon()

    def _soon(self) -> None:
        """Look who may enter after whatever else happens now: a group arrives turn by turn."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        self._due = False
        ready = min(self.waiting, self.slots - self.running)
        under_way = self.waiting + self.running
        group = self.group if under_way <= self.slots else 1
        if ready <= 0 or ready < min(group, -(-under_way // 2)):
            return
        self._count()
        for _ in range(ready):
            self._waiting.popleft().set_result(None)
            self.running += 1

    def _count(self) -> None:
        """Add up the time that passed since the last change."""
        now = time.monotonic()
        if self._changed is not None and (self.running or self._waiting):
            self._open_s += now - self._changed
            self._inside_s += self.running * (now - self._changed)
        self._changed = now
