"""Admission in groups: new turns enter an engine's running batch together, not one by one.

A step that mixes the prompts of new turns into the decoding of others costs a CPU engine more than
its tokens say. Where it has places to spare, turns that wait for one another save most of those
steps (`make bench-simulate` says what that is worth). Whatever the group, nobody waits for the
longest reply: a group is complete as soon as enough have finished.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Lets turns into an engine that runs `slots` of them at once, `group` together.

    A group is whole when `group` turns wait, or half of all turns under way do: so that neither the
    last conversations nor a `group` above their number ever stand still. While more turns are under
    way than there are slots, everyone enters at once: the engine keeps those that are too many in
    its own queue, and fills a slot in the very step after it became free.
    """

    def __init__(self, slots: int, group: int = 1) -> None:
        self.slots, self.group = slots, max(1, min(group, slots))
        self.running = 0
        """Turns that are inside."""
        self._waiting: list[asyncio.Future[None]] = []
        self._due = False
        self._inside_s = self._open_s = 0.0
        self._changed: float | None = None

    @property
    def waiting(self) -> int:
        """Turns that wait to be let in."""
        return len(self._waiting)

    @property
    def occupancy(self) -> float:
        """Mean share of the slots that had a turn, over the time in which there was work."""
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
                if entered in self._waiting:
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
        under_way = self.waiting + self.running
        group = self.group if under_way <= self.slots else 1
        if self.waiting < max(1, min(group, -(-under_way // 2))):
            return
        self._count()
        entering = [turn for turn in self._waiting if not turn.done()]  # the others have given up
        self._waiting.clear()
        self.running += len(entering)
        for turn in entering:
            turn.set_result(None)

    def _count(self) -> None:
        """Add up the time that passed since the last change."""
        now = time.monotonic()
        if self._changed is not None and (self.running or self._waiting):
            self._open_s += now - self._changed
            self._inside_s += min(self.running, self.slots) * (now - self._changed)
        self._changed = now
