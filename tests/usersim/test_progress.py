import io

import pytest

from usersim import progress
from usersim.progress import LINE_SECONDS, Track, duration, speed, track


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_a_first_line_one_every_five_seconds_and_a_last_one(clock, capsys):
    with track("curate", total=100, unit="conversations") as bar:
        for _ in range(40):
            clock.now += 0.25
            bar.advance(2)
        bar.advance(20)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "curate: 0/100 conversations"
    assert lines[1] == "curate: 40/100 conversations · 8.0 conversations/s · 7.5 s left"
    assert lines[-1] == "curate: 100/100 conversations · 10 s · 10 conversations/s"
    assert len(lines) in (3, 4)


def test_the_expected_end_follows_a_change_of_pace(clock, capsys):
    with track("resumed", total=2000, done=1000) as bar:
        for _ in range(60):
            clock.now += 1
            bar.advance()
        assert bar.rate == pytest.approx(1.0, rel=0.2)
        assert bar.remaining_seconds == pytest.approx(940, rel=0.2)


def test_what_was_found_done_is_counted_and_is_no_pace(clock, capsys):
    with track("simulate", total=202, unit="conversations", done=185) as bar:
        clock.now += 10
        assert (bar.rate, bar.remaining_seconds) == (0, None)
        bar.advance(17)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "simulate: 185/202 conversations"
    assert lines[-1] == "simulate: 202/202 conversations · 10 s · 1.7 conversations/s"


def test_what_is_left_after_a_resume_is_told_by_what_came_after(clock):
    bar = Track("simulate", 1000, "conversations", LINE_SECONDS, done=500)
    clock.now += 5
    bar.advance(9)  # the first of what is held side by side
    assert bar.remaining_seconds is None
    clock.now += 5
    bar.advance(11)
    assert bar.remaining_seconds == pytest.approx(480 / 2)


def test_without_a_total_there_is_a_count_and_no_end(clock, capsys):
    with track("read", unit="rows") as bar:
        clock.now += 6
        bar.advance(12)
    assert "read: 12 rows · 2.0 rows/s\n" in capsys.readouterr().err


def test_a_note_stands_at_the_end_as_it_is(clock, capsys):
    with track("curate", total=2) as bar:
        clock.now += 1
        bar.note("kept [93] %")
        bar.advance(2)
    assert capsys.readouterr().err.endswith("kept [93] %\n")


def test_work_that_breaks_off_says_where_and_raises(clock, capsys):
    def breaks_off():
        with track("train", total=9, unit="steps") as bar:
            bar.advance(4)
            clock.now += 2
            raise KeyError

    with pytest.raises(KeyError):
        breaks_off()
    assert "train: stopped at 4/9 steps after 2.0 s" in capsys.readouterr().err


def test_a_terminal_gets_a_live_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(progress, "_screen", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with track("curate", total=3, unit="conversations") as bar:
        bar.note("kept [93] %")
        bar.advance(3)
    assert "3/3 conversations" in terminal.getvalue()
    assert "kept [93] %" in terminal.getvalue()


def test_two_live_bars_at_once_do_no_harm(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(progress, "_screen", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with track("outer", total=1) as outer, track("inner", total=1) as inner:
        inner.advance()
        outer.advance()
    assert "inner" in terminal.getvalue()


def test_a_closed_screen_never_raises(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(progress, "_screen", closed)
    with track("curate", total=2) as bar:
        bar.advance()
        bar.refresh()
    assert bar.done == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.4, "59 s"), (65, "1 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0, ""), (0.2, "12 shards/min"), (4.24, "4.2 shards/s"), (1234.5, "1,234 shards/s")],
)
def test_speeds_are_for_people(rate, text):
    assert speed(rate, "shards") == text


def test_the_first_of_many_foretell_nothing(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("usersim.progress.time.monotonic", lambda: float(next(clock)))
    bar = Track("simulate", 200, "conversations", LINE_SECONDS)
    bar.advance(3)
    assert bar.remaining_seconds is None
    bar.advance(1)
    assert bar.remaining_seconds > 0
