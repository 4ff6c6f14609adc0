"""Progress of long work: a live bar on a terminal, plain lines every few seconds anywhere else.

    with track("curate", total=n, unit="conversations") as bar:
        for conversation in conversations:
            ...
            bar.advance()
            bar.note("kept 93 %")

Everything goes to stderr. Showing progress never raises and costs well under a microsecond a call,
so that an inner loop may advance as often as it likes.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 5.0  # between plain lines: a log of ten minutes stays readable
LIVE_SECONDS = 0.1  # between updates of the live bar
MARK_SECONDS = 2.0  # between what is remembered of the pace
FORETOLD = 0.02  # the share that must be done before it is told how long the rest takes
WINDOW_SECONDS = 30.0  # the rate is taken over these, so that an ETA follows a change of pace
UNSHOWABLE = (OSError, ValueError)  # the screen is gone, closed, or cannot encode a note

_screen: TextIO | None = None


def screen() -> TextIO:
    """Where progress is shown: stderr, or what `show_on` named."""
    return _screen or sys.stderr


def show_on(stream: TextIO) -> None:
    """Show progress on another stream, for a process whose stderr goes to a log."""
    global _screen  # noqa: PLW0603 - a process has one screen
    _screen = stream


class Track:
    """How much is done; tells its `show` function at most every `every` seconds."""

    def __init__(
        self, title: str, total: int | None, unit: str, every: float, done: int = 0
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self._found = done
        self.noted = ""
        self.show: Callable[[Track], None] = lambda _: None
        self.started = time.monotonic()
        self._every = every
        self._due = self.started + every
        self._marks = deque([(self.started, done)])

    def advance(self, n: int = 1) -> None:
        """Say that `n` more are done."""
        self.done += n
        if time.monotonic() >= self._due:
            self.refresh()

    def note(self, text: str) -> None:
        """Replace the words at the bar's end."""
        self.noted = text
        if time.monotonic() >= self._due:
            self.refresh()

    def refresh(self) -> None:
        """Show where the work stands, now."""
        now = time.monotonic()
        self._due = now + self._every
        if now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, self.done))
            while len(self._marks) > 1 and now - self._marks[1][0] >= WINDOW_SECONDS:
                self._marks.popleft()
        with suppress(*UNSHOWABLE):
            self.show(self)

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Units a second over the last half minute; 0.0 before anything is known."""
        since, before = self._marks[0]
        elapsed = time.monotonic() - since
        return (self.done - before) / elapsed if elapsed > 0 else 0.0

    @property
    def mean_rate(self) -> float:
        """Units a second since the beginning; what was found done took no time."""
        return (self.done - self._found) / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Until all is done, at the present rate; None when it cannot be told.

        Of many things done side by side the first are done late: they foretell nothing.
        """
        if self.total is None or self.done >= self.total or self.rate <= 0:
            return None
        if self.done - self._found < FORETOLD * (self.total - self._found):
            return None
        return (self.total - self.done) / self.rate

    def count(self) -> str:
        """`50/200 conversations`."""
        total = "" if self.total is None else f"/{self.total:,}"
        return f"{self.done:,}{total} {self.unit}"

    def ahead(self) -> str:
        """`4 min 10 s left`, or nothing."""
        left = self.remaining_seconds
        return "" if left is None else f"{duration(left)} left"


@contextmanager
def track(
    title: str, total: int | None = None, unit: str = "steps", done: int = 0
) -> Iterator[Track]:
    """Show the progress of a block of work; yields the Track to advance.

    `total` may be None when it is not known; then there is a count and a rate, but no ETA. `done`
    is what was found done: it is part of the count, and of no rate.
    """
    live = on_terminal()
    bar = Track(title, total, unit, LIVE_SECONDS if live else LINE_SECONDS, done)
    with _live(bar) if live else _lines(bar):
        yield bar


def on_terminal() -> bool:
    """Whether the screen can show a live bar."""
    with suppress(*UNSHOWABLE, AttributeError):
        return screen().isatty() and os.environ.get("TERM") != "dumb"
    return False


def duration(seconds: float) -> str:
    """Time for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def speed(rate: float, unit: str) -> str:
    """A rate for people: `312 tokens/s`, `4.2 conversations/s`, `12 shards/min`; nothing for 0."""
    if rate <= 0:
        return ""
    if rate < 0.5:
        return f"{rate * 60:.2g} {unit}/min"
    return f"{rate:,.1f} {unit}/s" if rate < 10 else f"{rate:,.0f} {unit}/s"


@contextmanager
def _lines(bar: Track) -> Iterator[None]:
    bar.show = _write_line
    with suppress(*UNSHOWABLE):
        _write(f"{bar.title}: {bar.count()}" if bar.total is not None else f"{bar.title} ...")
    try:
        yield
    except BaseException:
        with suppress(*UNSHOWABLE):
            _write(f"{bar.title}: stopped at {bar.count()} after {duration(bar.seconds)}")
        raise
    with suppress(*UNSHOWABLE):
        pace = speed(bar.mean_rate, bar.unit)
        _write(_joined(f"{bar.title}: {bar.count()}", duration(bar.seconds), pace, bar.noted))


def _write_line(bar: Track) -> None:
    _write(
        _joined(f"{bar.title}: {bar.count()}", speed(bar.rate, bar.unit), bar.ahead(), bar.noted)
    )


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _write(line: str) -> None:
    stream = screen()
    stream.write(line + "\n")
    stream.flush()


@contextmanager
def _live(bar: Track) -> Iterator[None]:
    from rich.errors import LiveError

    progress = _progress()
    task = progress.add_task(bar.title, total=bar.total, completed=bar.done, count="", pace="")
    bar.show = lambda b: progress.update(
        task,
        completed=b.done,
        count=b.count(),
        pace=_joined(speed(b.rate, b.unit), b.ahead(), b.noted),
    )
    try:
        progress.start()
    except LiveError:  # another live bar holds the terminal: plain lines do beneath it
        with _lines(bar):
            yield
        return
    try:
        yield
    finally:
        pace = _joined(duration(bar.seconds), speed(bar.mean_rate, bar.unit), bar.noted)
        with suppress(*UNSHOWABLE):
            progress.update(task, completed=bar.done, count=bar.count(), pace=pace)
            progress.stop()


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[pace]}", style="dim", markup=False),
        console=Console(file=screen()),
        refresh_per_second=5,
    )
