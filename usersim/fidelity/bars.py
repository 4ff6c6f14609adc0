"""Bars: what a user simulator that is like people reaches, read off a fidelity table.

A bar holds when its figure is on the right side of its bound. Where real people themselves, halved,
differ by more than the bound, a bar can be missed by chance: `floor_holds` says whether the floor
itself is on the right side, `within_floor` whether the figure is one that halves of people reach.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from usersim.fidelity.summary import reached, within_of

FEWEST_CONVERSATIONS = 300
"""On both sides, for the classifier two-sample test."""
PERPLEXITY_CHANGE, WITH_PROFILE_CHANGE = -0.20, -0.25
SURFACE_ERROR = 0.20
AUC_ABOVE_FLOOR = 0.08
DIVERSITY_POINTS = 3.0
CONFUSION = 0.02
BROKEN_DOWN = 0.10
ENDING_ERROR = 0.10
ROUNDS_BITS = 0.05
MEMORISED_ABOVE_FLOOR = 0.01
TOKENS_PER_CPU_S = 280.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure beside its bound; `holds` is None where the figure is not known."""

    name: str
    value: float | None
    bound: float | None
    holds: bool | None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    baseline: float | None = None
    within_floor: bool | None = None
    note: str = ""

    @property
    def floor_holds(self) -> bool | None:
        """Whether two halves of real people, on average, are within the bound of a distance."""
        if self.floor is None or self.bound is None or self.bound < 0:
            return None
        return self.floor <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"floor_holds": self.floor_holds}


def bars(table: Mapping[str, Any], training: Mapping[str, Any]) -> list[Bar]:
    """Every bar, from the table of fidelity.json and the training's figures of metrics.json."""
    makers = (_perplexity, _surface, _two_sample, _variety, _roles, _endings, _memory)
    found = [bar for maker in makers for bar in maker(table)]
    return [*found, _speed(training)]


def _at_most(
    name: str, figure: Mapping[str, Any] | None, bound: float | None, note: str = ""
) -> Bar:
    """The size of a figure must not be above the bound."""
    found = figure or {}
    value = found.get("value")
    return Bar(
        name,
        value,
        bound,
        None if value is None or bound is None else abs(value) <= bound,
        found.get("low"),
        found.get("high"),
        found.get("floor"),
        _value(found.get("prompted")),
        within_of(found),
        note,
    )


def _value(figure: Any) -> float | None:
    if isinstance(figure, Mapping):
        found = figure.get("value", figure.get("auc"))
        return None if found is None else float(found)
    return None


def _perplexity(table: Mapping[str, Any]) -> Iterator[Bar]:
    found = table.get("perplexity") or {}
    baseline = (found.get("prompted") or {}).get("all")
    floor = (found.get("floor") or {}).get("value")
    for name, key, bound in (
        ("perplexity against the prompted baseline", "user_model", PERPLEXITY_CHANGE),
        ("the same with a profile of how they write", "with_profile", WITH_PROFILE_CHANGE),
        ("the same with a profile and words of theirs", "with_both", WITH_PROFILE_CHANGE),
    ):
        one = found.get(key) or {}
        change = (one.get("change") or {}).get("all") or {}
        value = change.get("value")
        yield Bar(
            name, value, bound, None if value is None else value <= bound, change.get("low"),
            change.get("high"), floor, baseline, note=f"perplexity {one.get('all')}",
        )  # fmt: skip


def _surface(table: Mapping[str, Any]) -> Iterator[Bar]:
    found = (table.get("surface") or {}).get("groups") or {}
    for group in ("first", "later"):
        for name, one in ((found.get(group) or {}).get("statistics") or {}).items():
            title = f"{name}, {group} turns: relative error"
            note = f"people {one.get('real')}, simulated {one.get('simulated')}"
            yield _at_most(title, one.get("error"), SURFACE_ERROR, note=note)


def _two_sample(table: Mapping[str, Any]) -> Iterator[Bar]:
    apart = table.get("two_sample") or {}
    sides = (
        (table.get("about") or {}).get("reference", {}),
        (table.get("about") or {}).get("simulated", {}),
    )
    enough = all(side.get("conversations", 0) >= FEWEST_CONVERSATIONS for side in sides)
    for part in ("first", "later"):
        for name in ("linear", "fasttext"):
            one = (apart.get(part) or {}).get(name) or {}
            floor, value = one.get("floor"), one.get("auc")
            bound = None if floor is None else round(floor + AUC_ABOVE_FLOOR, 4)
            below = None if value is None or bound is None else value <= bound
            few = f"floor of {one.get('floor_of')}, {one.get('floor_persons')} persons a side"
            if not enough:
                few += f"; needs {FEWEST_CONVERSATIONS} conversations on both sides"
            yield Bar(
                f"two-sample AUC, {name}, {part} turns", value, bound,
                below if enough else None, one.get("low"), one.get("high"), floor,
                _value(one.get("prompted")), reached(one), few,
            )  # fmt: skip


def _variety(table: Mapping[str, Any]) -> Iterator[Bar]:
    found = (table.get("diversity") or {}).get("first_turn_diversity") or {}
    note = f"people {found.get('real')}, simulated {found.get('simulated')}"
    name = "first-turn diversity: points from people's"
    yield _at_most(name, found.get("difference"), DIVERSITY_POINTS, note=note)


def _roles(table: Mapping[str, Any]) -> Iterator[Bar]:
    found = table.get("role_adherence") or {}
    confusion = found.get("confusion") or {}
    attempts = found.get("confusion_of_attempts")
    shares = [v for v in (confusion.get("value"), attempts) if v is not None]
    note = f"of turns that stand {confusion.get('value')}, of all that were drawn {attempts}"
    worst = max(shares, default=None)
    if worst != confusion.get("value"):  # the run's own count has no interval
        confusion = confusion | {"value": worst, "low": None, "high": None, "difference": None}
    yield _at_most("role confusion: share of turns", confusion, CONFUSION, note=note)
    broken = found.get("broken_down") or {}
    side = (table.get("about") or {}).get("simulated", {})
    held = side.get("published") or side.get("conversations") or 0
    lost = side.get("rejected") or 0
    for key in ("value", "low", "high"):
        if broken.get(key) is not None:
            # One that broke down before its first answer was not even published.
            broken = broken | {key: round((broken[key] * held + lost) / max(1, held + lost), 4)}
    name = "early stops and loops: share of conversations"
    yield _at_most(name, broken, BROKEN_DOWN, note=f"{lost} had no round at all")


def _endings(table: Mapping[str, Any]) -> Iterator[Bar]:
    found = table.get("termination") or {}
    for rounds, one in (found.get("by_round") or {}).items():
        note = (
            f"people {one['true_rate']['value']}, model {one['probability']['value']}, "
            f"{one['decisions']} decisions"
        )
        name = f"P(end) after round {rounds}: relative error"
        yield _at_most(name, one["error"], ENDING_ERROR, note=note)
    distance = (found.get("rounds") or {}).get("distance")
    yield _at_most("rounds: Jensen-Shannon, bits", distance, ROUNDS_BITS)


def _memory(table: Mapping[str, Any]) -> Iterator[Bar]:
    found = (table.get("memorisation") or {}).get("openers") or {}
    floor = found.get("floor")
    bound = None if floor is None else round(floor + MEMORISED_ABOVE_FLOOR, 4)
    yield _at_most("memorised openers: share", found, bound)


def _speed(training: Mapping[str, Any]) -> Bar:
    value = training.get("tokens_per_cpu_s")
    holds = None if value is None else value >= TOKENS_PER_CPU_S
    return Bar("training: tokens per CPU-second", value, TOKENS_PER_CPU_S, holds)
