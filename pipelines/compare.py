"""Two runs side by side: every figure of both, and which differences are more than chance.

A share or mean over conversations gets a 99 % interval of its difference: of thirty rows one is
marked by chance in a third of the tables; at 95 % it would be more than one in each. A figure with
no conversations behind it (a perplexity, a rate) is marked only where its own interval says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import findings
from pipelines.charts import plain_words
from pipelines.fidelity_rows import fidelity_rows
from pipelines.run_view import RunView
from usersim.conversation import Conversation
from usersim.surface import compare as surface_of
from usersim.surface import opening, rounds_cap, word_count

Z_99 = 2.576
"""Half-width of a 99 % interval in standard errors, from the normal distribution."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of two runs; the difference is the second's less the first's."""

    name: str
    first: float | None
    second: float | None
    kind: str = "figure"
    """`share`, `figure` or `distance`: how to write it."""
    low: float | None = None
    high: float | None = None
    matters: bool = False
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Second less first; None where a side is missing."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


@dataclass(slots=True)
class Comparison:
    """Two runs, and all there is to say about their differences."""

    views: tuple[RunView, RunView]
    sections: list[Section] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, str]:
        """The runs' names; told apart by their folders where they are the same."""
        first, second = (view.root.resolve() for view in self.views)
        if first.name != second.name:
            return first.name, second.name
        return f"{first.parent.name}/{first.name}", f"{second.parent.name}/{second.name}"

    @property
    def matters(self) -> list[Row]:
        """The rows that differ by more than chance."""
        return [row for section in self.sections for row in section.rows if row.matters]


def compare_runs(first: Path, second: Path) -> Comparison:
    """Read both runs and compare them. Raises InputError where one is no run folder."""
    views = RunView.of(first), RunView.of(second)
    found = Comparison(views)
    parts = (
        ("What came out", _corpus(*views)),
        ("Why conversations were thrown away", _counts(*views, "curate", "reasons", of="in")),
        ("Why conversations stopped",
         _counts(*views, "simulate", "stop_reasons", of="conversations")),
        ("How simulated users type", _typed(*views)),
        ("Distance to people", _distances(*views)),
        ("Fidelity", _fidelity(*views)),
        ("Models", _models(*views)),
        ("Speed and cost", _speed(*views)),
    )  # fmt: skip
    for title, rows in parts:
        kept = tuple(row for row in rows if row.first is not None or row.second is not None)
        if kept:
            found.sections.append(Section(title, kept))
    return found


def pair_row(
    name: str, values: Iterable[float | None], kind: str = "figure", matters: bool = False,
    note: str = "",
) -> Row:  # fmt: skip
    """A row of two figures, without an interval of their difference."""
    first, second = values
    return Row(name, first, second, kind, matters=matters, note=note)


def share_row(
    name: str, first: tuple[float, float], second: tuple[float, float], z: float = Z_99
) -> Row:
    """Two shares, each as (how many, of how many), with Newcombe's interval of their difference.

    R. Newcombe, "Interval estimation for the difference between independent proportions", 1998,
    method 10: it holds for small counts, and for none at all.
    """
    shares = [k / n if n else None for k, n in (first, second)]
    a, b = shares
    if a is None or b is None:
        return Row(name, a, b, "share")
    (low_a, high_a), (low_b, high_b) = wilson(*first, z), wilson(*second, z)
    difference = b - a
    low = difference - ((b - low_b) ** 2 + (high_a - a) ** 2) ** 0.5
    high = difference + ((high_b - b) ** 2 + (a - low_a) ** 2) ** 0.5
    return Row(name, a, b, "share", low, high, low > 0 or high < 0)


def wilson(hits: float, total: float, z: float = Z_99) -> tuple[float, float]:
    """Wilson's interval of a share (1927), of `z` standard errors."""
    p = hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * (p * (1 - p) / total + z * z / (4 * total * total)) ** 0.5 / (1 + z * z / total)
    return middle - half, middle + half


def ratio_row(
    name: str, first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]],
    kind: str = "share",
) -> Row:  # fmt: skip
    """Two ratios of sums over conversations, each given as (numerator, denominator).

    Turns of one conversation are alike, so the spread is taken over conversations: the linearised
    variance of a ratio of means (Cochran, "Sampling Techniques", 1977, section 6.4).
    """
    sides = [_ratio(pairs) for pairs in (first, second)]
    if sides[0] is None or sides[1] is None:
        return Row(name, sides[0] and sides[0][0], sides[1] and sides[1][0], kind)
    (a, error_a), (b, error_b) = sides[0], sides[1]
    half = Z_99 * (error_a**2 + error_b**2) ** 0.5
    low, high = b - a - half, b - a + half
    return Row(name, a, b, kind, low, high, low > 0 or high < 0)


def _ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The ratio and its standard error; None for nothing to divide by."""
    total = sum(d for _, d in pairs)
    count = len(pairs)
    if not total or count < 2:
        return None
    ratio = sum(n for n, _ in pairs) / total
    squares = sum((n - ratio * d) ** 2 for n, d in pairs) / (count - 1)
    return float(ratio), float((squares / count) ** 0.5 / (total / count))


def _corpus(first: RunView, second: RunView) -> Iterator[Row]:
    views = (first, second)
    for name, *keys in (
        ("conversations simulated", "simulate", "conversations"),
        ("conversations kept", "curate", "kept"),
    ):
        yield pair_row(name, (view.number(*keys) for view in views))
    kept = [(v.number("curate", "kept"), v.number("curate", "in")) for v in views]
    sides = [(k, n) for k, n in kept if k is not None and n]
    if len(sides) == 2:
        yield share_row("share kept", sides[0], sides[1])
    talks = [v.simulated for v in views]
    rounds = [[(float(c.num_rounds), 1.0) for c in t] for t in talks]
    yield ratio_row("rounds a conversation", rounds[0], rounds[1], kind="figure")
    gates = [findings.gate(view) for view in views]
    if all(gates):
        failed = [float(len(gate.failed)) for gate in gates if gate]
        yield pair_row("bounds of the gate that fail", failed, matters=failed[0] != failed[1])


def _counts(first: RunView, second: RunView, *keys: str, of: str) -> Iterator[Row]:
    """Shares of a table of counts, each name of either run."""
    tables = [Counter(view.counts(*keys)) for view in (first, second)]
    totals = [view.number(keys[0], of) or 0 for view in (first, second)]
    if not all(totals):
        return
    for name, _ in (tables[0] + tables[1]).most_common():
        sides = [(table[name], total) for table, total in zip(tables, totals, strict=True)]
        yield share_row(plain_words(name), sides[0], sides[1])


Measure = Callable[[str], float]
TYPED: tuple[tuple[str, str, Measure], ...] = (
    ("words (a turn of more than 100 counts as 100)", "figure",
     lambda t: float(min(100, word_count(t)))),
    ("three words or fewer", "share", lambda t: float(word_count(t) <= 3)),
    ("begins in lower case", "share", lambda t: float(t.lstrip()[:1].islower())),
    ("ends in . ? or !", "share", lambda t: float(t.rstrip().endswith((".", "?", "!")))),
    ("contains ?", "share", lambda t: float("?" in t)),
    ("contains “please”", "share", lambda t: float("please" in t.lower())),
)  # fmt: skip


def _typed(first: RunView, second: RunView) -> Iterator[Row]:
    for when, turns in (("first", _first), ("later", _later)):
        for name, kind, measure in TYPED:
            sides = [[_sums(turns(c), measure) for c in view.simulated] for view in (first, second)]
            yield ratio_row(f"{when} turns: {name}", sides[0], sides[1], kind=kind)
    size = min(len(first.simulated), len(second.simulated))
    distinct = [_distinct(view.simulated, size) for view in (first, second)]
    yield pair_row("distinct three-word starts, in equally large samples", distinct, "share")


def _first(conversation: Conversation) -> list[str]:
    return [conversation.opener]


def _later(conversation: Conversation) -> list[str]:
    return conversation.user_turns[1:]


def _sums(turns: Sequence[str], measure: Measure) -> tuple[float, float]:
    return sum(map(measure, turns)), float(len(turns))


def _distinct(talks: Sequence[Conversation], size: int) -> float | None:
    if not size:
        return None
    return len({opening(c.opener) for c in sorted(talks, key=lambda c: c.id)[:size]}) / size


def _distances(first: RunView, second: RunView) -> Iterator[Row]:
    """Marked where one run is within what separates people from people, and the other is not."""
    tables = [
        surface_of(v.simulated, v.people) if v.simulated and v.people else None
        for v in (first, second)
    ]
    caps = [rounds_cap(view.simulated) for view in (first, second)]
    for name, text in findings.MAIN_DISTANCES.items():
        if name == "rounds_to_cap" and caps[0] != caps[1]:
            continue  # people cut at two different caps are two different yardsticks
        near = [findings.closeness(table, name, *text) for table in tables]
        within = [c.within for c in near]
        floors = [f"{c.floor:.2g}" for c in near if c.floor is not None]
        note = f"people to people {' and '.join(dict.fromkeys(floors))} {text[1]}" if floors else ""
        values = [c.value for c in near]
        differ = None not in within and within[0] != within[1]
        yield pair_row(f"{text[0]} ({text[1]})", values, "distance", differ, note)


def _fidelity(first: RunView, second: RunView) -> Iterator[Row]:
    tables = [fidelity_rows(view.fidelity) for view in (first, second)]
    named = [{f"{row.point}: {row.name}": row for row in table} for table in tables]
    for name in dict.fromkeys([*named[0], *named[1]]):
        sides = [table.get(name) for table in named]
        values = [side.value if side else None for side in sides]
        apart = _apart(*(side.interval if side else None for side in sides))
        yield pair_row(name, values, "distance", apart)


def _apart(first: Any, second: Any) -> bool:
    """Whether two intervals have nothing in common; False where one is not known."""
    if not first or not second:
        return False
    return bool(first[1] < second[0] or second[1] < first[0])


def _models(first: RunView, second: RunView) -> Iterator[Row]:
    for name, keys in (
        ("UserGPT: perplexity on held-out people", ("user_model", "perplexity", "after")),
        ("student: loss on real answers, change", ("assistant", "loss", "real", "difference")),
        ("student: loss on simulated answers, change",
         ("assistant", "loss", "simulated", "difference")),
    ):  # fmt: skip
        sides = [view.estimate(*keys) for view in (first, second)]
        known = [(e.low, e.high) for e in sides if e and e.low is not None and e.high is not None]
        matters = len(known) == 2 and _apart(known[0], known[1])
        yield pair_row(name, (e.mean if e else None for e in sides), matters=matters)


def _speed(first: RunView, second: RunView) -> Iterator[Row]:
    views = (first, second)
    for role in ("user", "assistant"):
        rates = [view.number("simulate", "tokens_per_s", role) for view in views]
        yield pair_row(f"{role} tokens a second", rates)
    yield pair_row(
        "seconds of work", (sum(view.counts("timing").values()) or None for view in views)
    )
    wasted = [
        (view.number("curate", "tokens", "dropped"), view.number("curate", "tokens", "in"))
        for view in views
    ]
    shares = [d / n if d is not None and n else None for d, n in wasted]
    yield pair_row("share of tokens spent on what was dropped", shares, "share")
