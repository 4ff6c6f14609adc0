"""Shares: of turns or conversations, by a yes-or-no test, with interval, floor and baseline."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from usersim.conversation import Conversation
from usersim.fidelity.designs import Compared, Design, Summary, sums_of
from usersim.fidelity.intervals import LEVEL, estimate, ratios, rounded
from usersim.fidelity.persons import Person

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Tests = Callable[[Sequence[Conversation]], Sequence[Sequence[float]]]
"""For each conversation the answers (0 to 1) of whatever is counted in it: its turns, or itself."""

DEFINITION = (
    "real, simulated, prompted: shares of each side; low, high: of the simulated one; floor: the "
    "share among real people, floor_high: the end of its interval; difference: a figure"
)


def share_figure(
    simulated: Sequence[Person],
    real: Sequence[Person],
    prompted: Sequence[Person],
    tests: Tests,
) -> dict[str, Any]:
    """Shares of what `tests` says yes to; JSON-able. None where a side is not there.

    `value` (simulated), `low`, `high`, `floor` (real people), `floor_high`, `real`, `simulated`,
    `prompted` (an estimate) and `difference`, simulated - real, a figure as in `designs`.
    """
    import numpy as np

    design = Design.of(simulated or real, real)
    people, asked = _summary(real, tests)
    floor = _estimate(people, asked, design.real_draws)
    table: dict[str, Any] = {
        "value": None, "low": None, "high": None, "real": floor["value"], "prompted": None
    }  # fmt: skip
    if simulated:
        ours, asked = _summary(simulated, tests)
        table |= _estimate(ours, asked, design.simulated_draws)
        found = Compared.of(design, ours, people, np.subtract)
        table["difference"] = found.figure(0, signed=True)
    if prompted:
        theirs = Design.of(prompted, real).simulated_draws
        table["prompted"] = _estimate(*_summary(prompted, tests), theirs)
    return table | {
        "simulated": table["value"], "floor": floor["value"], "floor_high": floor["high"]
    }  # fmt: skip


def _estimate(summary: Summary, asked: int, draws: "Floats") -> dict[str, float | None]:
    """A bootstrap's interval; where all persons agree, which no draw can leave, the exact one.

    Clopper and Pearson 1934, the persons who were asked as trials: of 300 none, 0 to 1.2 %.
    """
    import numpy as np

    value = float(summary(np.ones((1, draws.shape[1])))[0, 0])
    if not np.isfinite(value):
        return estimate(None, [])
    found, rarest = estimate(value, summary(draws)[:, 0]), LEVEL[0] ** (1 / asked)
    if value == 0.0:
        found["high"] = rounded(1 - rarest)
    if value == 1.0:
        found["low"] = rounded(rarest)
    return found


def _summary(persons: Sequence[Person], tests: Tests) -> tuple[Summary, int]:
    """For weights: the share of yes; rows x 1. And how many persons were asked anything."""
    import numpy as np

    owner = [n for n, person in enumerate(persons) for _ in person.conversations]
    answers = tests([c for person in persons for c in person.conversations])
    rows = [(n, float(answer)) for n, found in zip(owner, answers, strict=True) for answer in found]
    person = np.array([n for n, _ in rows], dtype=np.int64)
    said = np.array([answer for _, answer in rows], dtype=float).reshape(-1, 1)
    sums = sums_of(len(persons), person, said)
    counts = sums_of(len(persons), person, np.ones_like(said))
    return lambda weights: ratios(weights, sums, counts), int(np.count_nonzero(counts))


def plain_share(yes: int, of: int) -> float | None:
    """A share without an interval; None of nothing."""
    return rounded(yes / of) if of else None
