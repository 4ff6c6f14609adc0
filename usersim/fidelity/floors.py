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


def against_floor(
    measure: Measure,
    simulated: Sequence[Person],
    real: Sequence[Person],
    splits: int = SPLITS,
    *,
    signed: bool = False,
) -> dict[str, Any]:
    """`value` of all, `floor`, `floor_high`, `value_at_floor_size`, `within`.

    Of a signed measure (a difference) floor and value at its size are sizes. None where nothing can
    be measured. For measures that are no function of sums over persons; see `designs` for others.
    """
    size = matched_size(len(simulated), len(real))
    floors, values = [], []
    for salt in range(splits if size else 0):
        left, right = (half[:size] for half in halves(real, salt))
        floors.append(measure(left, right))
        values.append(measure(shuffled(simulated, salt)[:size], right))
    sized = abs if signed else float
    known = [sized(f) for f in floors if f is not None]
    matched = [sized(v) for v in values if v is not None]
    value = sum(matched) / len(matched) if matched else None
    high = max(known, default=None)
    return {
        "value": rounded(measure(simulated, real)),
        "floor": rounded(sum(known) / len(known) if known else None),
        "floor_high": rounded(high),
        "value_at_floor_size": rounded(value),
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
