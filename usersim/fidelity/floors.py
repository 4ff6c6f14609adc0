"""Floors: any distance beside the same distance between two halves of the real people.

Most distances between samples are above zero by chance alone, and the more so the smaller the
samples. A floor is therefore taken with as many persons on either side as the comparison that it
is held against: `value_at_floor_size` is that comparison, averaged over the same splits.
"""

from collections.abc import Callable, Sequence
from typing import Any

from usersim.errors import InputError
from usersim.fidelity.intervals import rounded
from usersim.fidelity.persons import Person, halves, shuffled

SPLITS = 20
Measure = Callable[[Sequence[Person], Sequence[Person]], float | None]
"""A distance of two groups, the first in the role of the simulated one."""

DEFINITION = (
    "floor: the same measure between two halves of the real people (mean over splits by a stable "
    "hash; low, high: smallest and largest); value_at_floor_size: simulated against real with as "
    "many persons a side as the floor has, mean over the same splits; within: that mean is not "
    "above floor_high"
)


def against_floor(
    measure: Measure, simulated: Sequence[Person], real: Sequence[Person], splits: int = SPLITS
) -> dict[str, Any]:
    """`value` of all, `floor`, `floor_low`, `floor_high`, `value_at_floor_size`, `within`.

    Also `floor_persons`, how many were on each side of a floor. None where nothing can be measured
    (or `splits` is 0). See DEFINITION.
    """
    table: dict[str, Any] = {"value": rounded(measure(simulated, real))}
    return table | floor_of(measure, simulated, real, splits)


def floor_of(
    measure: Measure, simulated: Sequence[Person], real: Sequence[Person], splits: int = SPLITS
) -> dict[str, Any]:
    """What `against_floor` says beside `value`."""
    size = matched_size(len(simulated), len(real))
    floors, values = [], []
    for salt in range(splits if size else 0):
        left, right = (half[:size] for half in halves(real, salt))
        floors.append(measure(left, right))
        values.append(measure(shuffled(simulated, salt)[:size], right))
    known = [f for f in floors if f is not None]
    matched = [v for v in values if v is not None]
    value = sum(matched) / len(matched) if matched else None
    high = max(known, default=None)
    return {
        "floor": rounded(sum(known) / len(known) if known else None),
        "floor_low": rounded(min(known, default=None)),
        "floor_high": rounded(high),
        "value_at_floor_size": rounded(value),
        "floor_persons": size,
        "within": None if value is None or high is None else value <= high,
    }


def matched_size(simulated: int, real: int) -> int:
    """Persons on each side of a floor: half of the real, but no more than are simulated."""
    return min(real // 2, simulated)


def check_sides(simulated: Sequence[Person], real: Sequence[Person]) -> None:
    """Raise InputError unless there is somebody on both sides."""
    for name, side in (("simulated", simulated), ("real", real)):
        if not side:
            raise InputError(f"nothing to compare: there is no {name} conversation")
