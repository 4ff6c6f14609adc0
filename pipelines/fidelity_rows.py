"""The summary of a run's fidelity.json as rows: each beside people's floor and the baseline's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.charts import plain_words
from pipelines.run_view import as_number


@dataclass(frozen=True, slots=True)
class FidelityRow:
    """One figure with its 95 % interval, the floor of people against people, and the baseline's."""

    point: str
    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    floor_high: float | None = None
    prompted: float | None = None
    within: bool | None = None
    """Whether people, as many on each side, are as far from people; None where it is not known."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, where both are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def fidelity_rows(table: Mapping[str, Any]) -> list[FidelityRow]:
    """The figures of `usersim.fidelity.summary`, in its order; nothing for any other file."""
    listed = table.get("summary")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return [_row(row) for row in rows if as_number(row.get("value")) is not None]


def _row(row: Mapping[str, Any]) -> FidelityRow:
    numbers = ("low", "high", "floor", "floor_high", "prompted")
    return FidelityRow(
        plain_words(str(row.get("point"))),
        plain_words(str(row.get("name"))),
        str(row.get("unit") or ""),
        float(row["value"]),
        **{key: as_number(row.get(key)) for key in numbers},
        within=row.get("within"),
    )


SURFACE = {
    "words_first": ("length of the first turn", "words"),
    "words_later": ("length of later turns", "words"),
    "doublings_first": ("length of the first turn", "doublings"),
    "doublings_later": ("length of later turns", "doublings"),
    "rounds_to_cap": ("rounds, up to the cap", "bit"),
}


def surface_rows(surface: Mapping[str, Any]) -> list[FidelityRow]:
    """Distances of `usersim.surface.compare` as rows: what every run knows without measuring."""
    found = []
    for key, (name, unit) in SURFACE.items():
        table = surface.get("distance", {}).get(key) or {}
        if as_number(table.get("value")) is not None:
            value, within = float(table["value"]), table.get("within")
            ends = {end: as_number(table.get(end)) for end in ("floor", "floor_high")}
            found.append(FidelityRow("distance", name, unit, value, within=within, **ends))
    return found
