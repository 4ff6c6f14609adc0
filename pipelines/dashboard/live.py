"""A run while it generates: pace, what is left, why conversations end, and whether it collapses.

Read from the journals (SQLite, read-only) and the data files' footers; nothing is locked, and the
run does not notice. A simulator that collapses says the same thing again and again: distinct
openers fall and trigrams repeat. Both are held against people's own, in samples of equal size.
"""

import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.recipe import read_yaml
from usersim.errors import InputError
from usersim.files import read_conversations, read_json
from usersim.surface import opening, stable_hash

WINDOW_S = 60.0
SAMPLE = 400
"""Newest user turns that the alarms look at; of people the same number."""
FEWEST = 40
COLLAPSED_OPENERS = 0.75
"""Times people's share of distinct openers below which it looks collapsed; the demo has 0.91."""
REPEATED_TRIGRAMS = 5.0
"""Times people's share of openers with a frequent trigram above which it looks like collapse: the
demo's 135M simulator has 3.8 times people's, and one that repeats itself has more than ten."""
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One sign of collapse: the figure, people's, and whether it is far off."""

    name: str
    value: float
    people: float | None
    rings: bool
    example: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """How a simulation stands."""

    planned: int | None
    ended: int
    turns: int
    talking: int
    rate: float
    """Conversations a second over the last minute that was watched, else over the whole run."""
    turns_rate: float
    eta_s: float | None
    seconds: float
    stop_reasons: dict[str, int]
    refused: dict[str, int]
    alarms: list[Alarm]
    newest: list[str] = field(default_factory=list)


class Watch:
    """Looks at one run from time to time, and remembers how fast it went."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._seen: deque[tuple[float, int, int]] = deque(maxlen=240)
        self._people: tuple[Version, list[str]] = ((), [])
        self._whole: dict[Path, tuple[Version, Counter[str], Counter[str], int]] = {}
        self._lock = threading.Lock()

    def look(self, now: float) -> Moment:
        """How it stands at `now` (seconds of any clock that goes on)."""
        with self._lock:
            return self._look(now)

    def _look(self, now: float) -> Moment:
        stops: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        turns = talking = 0
        openers: list[str] = []
        later: list[str] = []
        for path in sorted((self.run / "journal").glob("part-*.sqlite")):
            found = self._journal(path)
            stops += found[0]
            refused += found[1]
            turns += found[2]
            talking += found[3]
        for path in sorted((self.run / "journal").glob("part-*.sqlite"), reverse=True):
            if len(openers) >= SAMPLE:
                break
            newest = _newest(path)
            openers += [text for position, text in newest if position == 0]
            later += [text for _, text in newest]
        return self._moment(now, stops, refused, (turns, talking), (openers, later))

    def _moment(
        self,
        now: float,
        stops: Counter[str],
        refused: Counter[str],
        counts: tuple[int, int],
        texts: tuple[list[str], list[str]],
    ) -> Moment:
        turns, talking = counts
        ended, planned = stops.total(), self._planned()
        self._seen.append((now, ended, turns))
        seconds = self._seconds()
        rate, turns_rate = self._rates(seconds, ended, turns)
        left = None if planned is None else max(0, planned - ended)
        return Moment(
            planned=planned,
            ended=ended,
            turns=turns,
            talking=talking,
            rate=rate,
            turns_rate=turns_rate,
            eta_s=left / rate if left is not None and rate > 0 else None,
            seconds=seconds,
            stop_reasons=dict(stops.most_common()),
            refused=dict(refused.most_common()),
            alarms=alarms(texts[0][:SAMPLE], texts[1][:SAMPLE], self._people_openers()),
            newest=texts[0][:8],
        )

    def _journal(self, path: Path) -> tuple[Counter[str], Counter[str], int, int]:
        """Endings, refusals, accepted turns, conversations that talk.

        A whole shard is read once, for as long as its data file stays: `--redo` and `realchat
        retry` take that away, and the journal tells something else from then on.
        """
        data = _version(self.run / "conversations" / f"{path.stem}.parquet")  # before the journal
        known = self._whole.get(path)
        if known is not None and known[0] == data:
            return (*known[1:], 0)
        with suppress(sqlite3.Error), closing(_readonly(path)) as db:
            stops = Counter(
                {
                    str(k): n
                    for k, n in db.execute("SELECT stop_reason, count(*) FROM ending GROUP BY 1")
                }
            )
            refusals = db.execute(
                "SELECT role || ': ' || reason, count(*) FROM attempt"
                " WHERE reason NOT IN ('', 'left', 'passed_over') GROUP BY 1"
            )
            refused = Counter({str(k): n for k, n in refusals})
            accepted, begun = db.execute(
                "SELECT count(*), count(DISTINCT conversation) FROM attempt WHERE reason = ''"
            ).fetchone()
            if data:
                self._whole[path] = (data, stops, refused, accepted)
                return stops, refused, accepted, 0
            return stops, refused, accepted, max(0, begun - stops.total())
        return Counter(), Counter(), 0, 0

    def _rates(self, seconds: float, ended: int, turns: int) -> tuple[float, float]:
        now = self._seen[-1][0]
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()
        since, ended_then, turns_then = self._seen[0]
        if now - since >= WINDOW_S / 4 and turns > turns_then:
            return (ended - ended_then) / (now - since), (turns - turns_then) / (now - since)
        return (ended / seconds, turns / seconds) if seconds > 0 else (0.0, 0.0)

    def _planned(self) -> int | None:
        with suppress(InputError, OSError, LookupError, TypeError, ValueError):
            table: Any = read_yaml(self.run / "recipe.yaml")
            return int(table["simulate"]["conversations"])
        return None

    def _seconds(self) -> float:
        with suppress(InputError, TypeError, ValueError):
            spent: Any = read_json(self.run / "journal" / "spent.json")
            return float(spent.get("seconds", 0.0))
        return 0.0

    def _people_openers(self) -> list[str]:
        path = self.run / "people" / "test.parquet"
        version = _version(path)  # there may be none yet, and others after `ingest --redo`
        if version != self._people[0]:
            found: list[str] = []
            with suppress(InputError):
                people = sorted(read_conversations(path), key=lambda c: stable_hash(c.id))
                found = [c.opener for c in people[:SAMPLE]]
            self._people = (version, found)
        return self._people[1]


def alarms(openers: Sequence[str], turns: Sequence[str], people: Sequence[str]) -> list[Alarm]:
    """Signs of mode collapse; none before there is enough to say anything."""
    if len(openers) < FEWEST:
        return []
    size = min(len(openers), len(people)) if len(people) >= FEWEST else len(openers)
    ours, theirs = openers[:size], people[:size]
    distinct = distinct_openings(ours)
    human = distinct_openings(theirs) if len(theirs) >= FEWEST else None
    frequent, times = Counter(map(opening, ours)).most_common(1)[0]
    repeated, example = repeated_trigrams(ours)
    human_repeated = repeated_trigrams(theirs)[0] if human is not None else None
    same = 1 - len({_plain(t) for t in turns}) / len(turns) if turns else 0.0
    return [
        Alarm("distinct openers", distinct, human,
              distinct < (human or 0.9) * COLLAPSED_OPENERS, f"{frequent} ({times})"),
        Alarm("openers with a frequent trigram", repeated, human_repeated,
              repeated > max(0.3, (human_repeated or 0.1) * REPEATED_TRIGRAMS), example),
        Alarm("user turns said before", same, None, same > 0.5),
    ]  # fmt: skip


def distinct_openings(texts: Sequence[str]) -> float:
    """Distinct first three words / texts."""
    return len(set(map(opening, texts))) / len(texts)


def repeated_trigrams(texts: Iterable[str]) -> tuple[float, str]:
    """Share of texts with a trigram that over a fiftieth of all texts hold, and the top trigram.

    One text counts a trigram once, so that a loop within it is not taken for collapse.
    """
    sets = [_trigrams(text) for text in texts]
    counts = Counter(gram for grams in sets for gram in grams)
    often = {gram for gram, n in counts.items() if n > max(2, len(sets) / 50)}
    share = sum(bool(grams & often) for grams in sets) / len(sets) if sets else 0.0
    top = counts.most_common(1)
    return share, f"{top[0][0]} ({top[0][1]})" if top and top[0][1] > 1 else ""


def _trigrams(text: str) -> set[str]:
    words = text.lower().split()[:200]
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _newest(path: Path) -> list[tuple[int, str]]:
    """User turns of the conversations that a journal heard of last."""
    with suppress(sqlite3.Error), closing(_readonly(path)) as db:
        rows = db.execute(
            "SELECT position, text FROM attempt WHERE reason = '' AND role = 'user'"
            " ORDER BY conversation DESC, position LIMIT ?",
            (SAMPLE * 3,),
        )
        return [(int(position), str(text)) for position, text in rows]
    return []


def _version(path: Path) -> Version:
    """Size and time of change, which are others when a file was made anew; () without it."""
    try:
        known = path.stat()
    except OSError:
        return ()
    return known.st_size, known.st_mtime_ns


def _readonly(path: Path) -> sqlite3.Connection:
    # Without a write-ahead log nobody writes, and a plain read-only open would make one.
    wal = path.with_name(path.name + "-wal").exists()
    asked = "mode=ro" if wal else "mode=ro&immutable=1"
    return sqlite3.connect(f"file:{path}?{asked}", uri=True, timeout=2.0)
