"""How many requests a server is sent at once: additive increase, multiplicative decrease.

A vendor's limit is known only by its refusals. Each refusal for lack of room halves the limit, each
answer raises it by one part of itself, so that a limit's worth of answers raise it by one (the rule
by which TCP shares a line: Chiu and Jain, Computer Networks and ISDN Systems, 1989). Requests that
were sent before a cut say nothing about the limit after it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

CUT = 0.5
LEAST = 1.0


class AdaptiveLimit:
    """Lets at most `limit` requests through at once; `limit` follows what the server can take."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        """Requests at once, as of now; what is after the point is on the way to the next."""
        self.running = 0
        self.cuts = 0
        """How often the limit was cut."""
        self._shut = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait for room; returns a ticket that `refused` asks for. Each entry needs a `leave`."""
        if self._waiting or not self._has_room:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._given_up(turn)
                raise
        else:
            self.running += 1
        return self.cuts

    def leave(self) -> None:
        """A request is over, however it ended."""
        self.running -= 1
        self._admit()

    def answered(self) -> None:
        """The server had room."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._admit()

    def refused(self, ticket: int) -> None:
        """The server had no room for the request with this ticket."""
        if ticket == self.cuts:
            self.cuts += 1
            self.limit = max(LEAST, self.limit * CUT)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Nobody enters while the block runs: the server asked for a pause, from all of us."""
        self._shut += 1
        try:
            yield
        finally:
            self._shut -= 1
            self._admit()

    @property
    def _has_room(self) -> bool:
        return not self._shut and self.running < int(self.limit)

    def _admit(self) -> None:
        while self._waiting and self._has_room:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.running += 1

    def _given_up(self, turn: "asyncio.Future[None]") -> None:
        """Whoever waited was cancelled, perhaps in the moment in which they were let in."""
        if turn.done() and not turn.cancelled():
            self.leave()
