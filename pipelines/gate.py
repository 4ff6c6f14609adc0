"""The gate: bounds that a run's figures must keep before its corpus is published.

A bound whose figure was never measured fails, unless nobody asked for it; a figure that is not
there must not look like a good one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.charts import plain_words
from usersim.errors import InputError
from usersim.files import read_json
from usersim.settings import Settings


class Bound(Settings):
    """What a figure may be."""

    min: float | None = Field(None, description="not below this")
    max: float | None = Field(None, description="not above this")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a bound needs `min`, `max` or both")
        return self

    def holds(self, value: float) -> bool:
        """Whether the value is inside."""
        above = self.min is None or value >= self.min
        return above and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        sides = ((self.min, "at least"), (self.max, "at most"))
        return ", ".join(f"{words} {side:g}" for side, words in sides if side is not None)


class GateSettings(Settings):
    """Bounds of a publishable corpus; null asks nothing."""

    max_duplicates: float | None = Field(
        0.05, ge=0, le=1, description="share of the corpus whose user sides are alike (Jaccard 0.5)"
    )
    max_personal_data: float | None = Field(
        0.0, ge=0, le=1, description="share of the corpus that holds personal data of a known form"
    )
    max_contaminated: float | None = Field(
        0.0, ge=0, le=1, description="share of the corpus with a question of a named benchmark"
    )
    max_memorised: float | None = Field(
        0.0, ge=0, le=1, description="share of the corpus that repeats a training person"
    )
    max_memorised_openers: float | None = Field(
        0.02, ge=0, le=1, description="share of all simulated openers that a training person wrote"
    )
    min_kept_share: float | None = Field(
        0.2, ge=0, le=1, description="share of the simulated conversations that curation kept"
    )
    bounds: dict[str, Bound] = Field(
        {}, description="further figures of metrics.json or fidelity.json, by dotted place"
    )


_FIGURES: dict[str, tuple[str, Literal["min", "max"], str | None]] = {
    "max_duplicates": ("curate.before_after.after.duplicates", "max", None),
    "max_personal_data": ("curate.before_after.after.personal_data", "max", None),
    "max_contaminated": ("curate.before_after.after.contaminated", "max", "curate.contamination"),
    "max_memorised": ("curate.before_after.after.memorised", "max", "curate.memorisation"),
    "max_memorised_openers": (
        "curate.memorisation.simulated.openers", "max", "curate.memorisation",
    ),
    "min_kept_share": ("curate.kept_share", "min", None),
}  # fmt: skip
"""Of each bound its figure's place, its side, and the place without which nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One bound, held or not."""

    figure: str
    place: str
    bound: str
    value: float | None
    passed: bool
    note: str = ""

    @property
    def shown(self) -> str:
        """One line for the terminal."""
        value = "not measured" if self.value is None else f"{self.value:g}"
        verdict = "ok  " if self.passed else "FAIL"
        note = f" ({self.note})" if self.note else ""
        return f"{verdict}  {self.figure:<36} {value:>12}  {self.bound}{note}"


def figures_for_gate(root: Path) -> dict[str, Any]:
    """metrics.json of a run, and fidelity.json under `fidelity` where there is one.

    Raises InputError when there are no metrics.
    """
    if not (root / "metrics.json").is_file():
        raise InputError(f"{root} has no figures yet: `realchat run` makes them")
    figures = dict(read_json(root / "metrics.json"))
    if (root / "fidelity.json").is_file():
        figures["fidelity"] = read_json(root / "fidelity.json")
    return figures


def checks(settings: GateSettings, figures: Mapping[str, Any]) -> list[Check]:
    """Every bound of the recipe against a run's figures."""
    found = []
    for name, (place, side, asked) in _FIGURES.items():
        limit = getattr(settings, name)
        if limit is None:
            continue
        bound = Bound(min=limit) if side == "min" else Bound(max=limit)
        check = _check(plain_words(name.split("_", 1)[1]), place, bound, figures)
        if asked and at(figures, asked) is None:
            check = Check(check.figure, place, check.bound, None, True, "nobody asked for it")
        found.append(check)
    return found + [_check(place, place, b, figures) for place, b in settings.bounds.items()]


def _check(name: str, place: str, bound: Bound, figures: Mapping[str, Any]) -> Check:
    value = at(figures, place)
    number = float(value) if isinstance(value, int | float) else None
    return Check(name, place, str(bound), number, number is not None and bound.holds(number))


def at(figures: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place, or None."""
    value: Any = figures
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def report(found: list[Check]) -> str:
    """The checks as lines for the terminal."""
    failed = sum(not check.passed for check in found)
    said = f"{failed} of {len(found)} bounds are not kept" if failed else "every bound is kept"
    return "\n".join([*(check.shown for check in found), "", said])


def passage(found: list[Check], overridden: str | None) -> dict[str, Any]:
    """What a release records of its gate.

    Raises InputError with the figures that fail, unless somebody says why it may pass all the same.
    """
    failed = [check for check in found if not check.passed]
    if failed and overridden is None:
        lines = "\n".join(f"  {check.shown}" for check in failed)
        raise InputError(
            f"the gate is closed:\n{lines}\nmend it, change the recipe's `gate`, or say why it may "
            "be published all the same: --gate-overridden TEXT (it is recorded in the release)"
        )
    record: dict[str, Any] = {"passed": not failed, "checks": [asdict(check) for check in found]}
    return record | ({"overridden": overridden} if failed else {})
