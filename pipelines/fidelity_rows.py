"""The figures of a run's fidelity.json as rows: each beside people's floor and the baseline's.

Whatever in the file is a figure becomes a row, so that a new measure shows without a change here:
a figure is a table with a number `value` (or `auc`, or `all`), and maybe `low`, `high`, `floor`,
`floor_high` and `prompted` beside it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.charts import plain_words
from pipelines.run_view import as_number

POINTS = ("perplexity", "termination", "diversity", "surface", "two_sample", "role_adherence",
          "conditions", "intents", "memorisation")  # fmt: skip
"""The measures, in the order in which they are shown."""
MAIN = ("value", "auc", "all", "error", "difference")
BASELINES = ("prompted", "floor", "rates", "settings", "about", "definitions")
DEEPEST = 5


@dataclass(frozen=True, slots=True)
class FidelityRow:
    """One figure with its 95 % interval, the floor of people against people, and the baseline's."""

    point: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    floor_high: float | None = None
    prompted: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, where both are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def within(self) -> bool | None:
        """Whether it is no farther than people are from people; None where that is not known."""
        return None if self.floor_high is None else abs(self.value) <= self.floor_high


def fidelity_rows(table: Mapping[str, Any]) -> list[FidelityRow]:
    """Every figure, in the order of the measures; nothing for a file that is not one of ours."""
    points = [p for p in POINTS if isinstance(table.get(p), Mapping)]
    return [row for point in points for row in _rows(point, (), table[point])]


def _rows(point: str, path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[FidelityRow]:
    main = next((table[k] for k in MAIN if as_number(table.get(k)) is not None), None)
    if main is not None:
        yield _row(point, path, float(main), table)
        return
    if len(path) >= DEEPEST:
        return
    for key, value in table.items():
        if isinstance(value, Mapping) and key not in BASELINES:
            # `user_model` is what all of it is about, and says nothing in a name.
            inner = path if key in ("user_model", "groups", "statistics") else (*path, str(key))
            yield from _rows(point, inner, value)


def _row(point: str, path: tuple[str, ...], value: float, table: Mapping[str, Any]) -> FidelityRow:
    floor = _number(table.get("floor"))
    return FidelityRow(
        point=plain_words(point),
        name=", ".join([plain_words(point), *map(plain_words, path)]),
        value=value,
        low=as_number(table.get("low")),
        high=as_number(table.get("high")),
        floor=floor,
        floor_high=as_number(table.get("floor_high")),
        prompted=_number(table.get("prompted")),
    )


def _number(value: Any) -> float | None:
    """A number, or the main number of a table."""
    if isinstance(value, Mapping):
        return next((n for k in MAIN if (n := as_number(value.get(k))) is not None), None)
    return as_number(value)
