"""Designs: the weights over persons under which a figure and all it stands beside are computed.

A group of persons is a row of weights: everybody once, a bootstrap draw (how often each was drawn),
one half of the real people (1 or 0). A figure that is a function of weighted sums over persons is
thereby computed for the value, its interval, its floor and its baseline by the same lines, and for
all rows at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from usersim.fidelity.floors import SPLITS, matched_size
from usersim.fidelity.intervals import DRAWS, interval, person_draws, rounded
from usersim.fidelity.persons import Person, shuffled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Summary = Callable[["Floats"], "Floats"]
"""From weights (rows x persons of a side) to what a distance needs (rows x anything)."""
Distance = Callable[["Floats", "Floats"], "Floats"]
"""From the summaries of two sides to figures (rows x names)."""

DEFINITIONS = {
    "value": "simulated against all real people",
    "low, high": "95 % bootstrap interval, both sides' persons drawn with replacement. Of a "
    "distance between distributions, which any drawing makes larger, moved down by as much as the "
    "draws' mean is above the value, and not below 0",
    "floor": "the same between two halves of the real people, mean of "
    f"{SPLITS} splits by a stable hash; floor_high: the largest of them",
    "value_at_floor_size": "simulated against one half, as many persons a side as the floor has, "
    "mean of the same splits",
    "within": "value_at_floor_size is not above floor_high: by this figure nobody could say which "
    "side is simulated",
    "prompted": "the value, low and high of the baseline: untrained weights, instructed to act as "
    "a user",
}


@dataclass(frozen=True, slots=True)
class Design:
    """Rows of weights for one side against the real people."""

    simulated_draws: "Floats"
    simulated_part: "Floats"
    """As many persons as a floor has, one row a split."""
    real_draws: "Floats"
    left: "Floats"
    right: "Floats"
    size: int
    """Persons on each side of a floor."""

    @classmethod
    def of(
        cls,
        simulated: Sequence[Person],
        real: Sequence[Person],
        splits: int = SPLITS,
        draws: int = DRAWS,
    ) -> Self:
        """The design for these sides."""
        size = matched_size(len(simulated), len(real))
        middle = len(real) // 2
        return cls(
            person_draws(len(simulated), draws, seed=1),
            _chosen(simulated, 0, size, splits),
            person_draws(len(real), draws, seed=2),
            _chosen(real, 0, size, splits),
            _chosen(real, middle, middle + size, splits),
            size,
        )


def _chosen(persons: Sequence[Person], start: int, stop: int, splits: int) -> "Floats":
    """1 for the persons at places start to stop of each split's order, 0 for the others."""
    import numpy as np

    position = {person.id: n for n, person in enumerate(persons)}
    rows = np.zeros((splits, len(persons)))
    for salt in range(splits):
        places = [position[p.id] for p in shuffled(persons, salt)[start:stop]]
        rows[salt, places] = 1
    return rows


@dataclass(frozen=True, slots=True)
class Compared:
    """Figures of one side against the real people: arrays whose last axis goes over figures."""

    value: "Floats"
    draws: "Floats"
    floors: "Floats"
    matched: "Floats"

    @classmethod
    def of(cls, design: Design, simulated: Summary, real: Summary, distance: Distance) -> Self:
        """All that a figure stands beside, by the same distance."""
        import numpy as np

        ones = [np.ones((1, d.shape[1])) for d in (design.simulated_draws, design.real_draws)]
        right = real(design.right)
        return cls(
            distance(simulated(ones[0]), real(ones[1]))[0],
            distance(simulated(design.simulated_draws), real(design.real_draws)),
            distance(real(design.left), right),
            distance(simulated(design.simulated_part), right),
        )

    def figure(self, number: int, *, signed: bool = False) -> dict[str, Any]:
        """One figure for JSON; of a signed one (an error) floors and matches are sizes."""
        import numpy as np

        floors, matched = self.floors[:, number], self.matched[:, number]
        if signed:
            floors, matched = np.abs(floors), np.abs(matched)
        floor, high, value = _mean(floors), _largest(floors), _mean(matched)
        return self.plain_figure(number) | {
            "floor": rounded(floor),
            "floor_high": rounded(high),
            "value_at_floor_size": rounded(value),
            "within": None if high is None or value is None else value <= high,
        }

    def settled(self) -> Self:
        """For a distance between distributions, never below 0: draws without their own excess.

        A sample of a sample differs from another one by its own chance as well: two groups of 300
        of one kind are 0.003 bits apart in rounds, their draws 0.004 to 0.027. Moved by the
        bootstrap's estimate of that bias (Efron and Tibshirani 1993, chapter 10).
        """
        import numpy as np

        known = np.where(_finite(self.draws), self.draws, 0.0)
        number = np.maximum(1, _finite(self.draws).sum(axis=0))
        excess = np.maximum(0.0, known.sum(axis=0) / number - self.value)
        return replace(self, draws=np.maximum(0.0, self.draws - excess))

    def plain_figure(self, number: int) -> dict[str, float | None]:
        """`value`, `low` and `high` of one figure."""
        low, high = interval(self.draws[:, number]) or (None, None)
        value = rounded(float(self.value[number]))
        return {"value": value, "low": rounded(low), "high": rounded(high)}


def _mean(values: "Floats") -> float | None:
    known = values[_finite(values)]
    return float(known.mean()) if len(known) else None


def _largest(values: "Floats") -> float | None:
    known = values[_finite(values)]
    return float(known.max()) if len(known) else None


def _finite(values: "Floats") -> Any:
    import numpy as np

    return np.isfinite(values)


def sums_of(persons: int, person: Any, values: Any) -> "Floats":
    """Sums over each person's rows: `values` is (rows x k), the result (persons x k)."""
    import numpy as np

    table = np.asarray(values, dtype=float)
    total = np.zeros((persons, *table.shape[1:]))
    np.add.at(total, np.asarray(person, dtype=int), table)
    return total


def relative_error(simulated: "Floats", real: "Floats") -> "Floats":
    """Simulated / real - 1; NaN where real is 0 or either is not known."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(real != 0, simulated / real - 1, np.nan)


def wasserstein(left: "Floats", right: "Floats") -> "Floats":
    """Wasserstein-1 between histograms over 0, 1, 2, ... (rows x bins), in bins; rows x 1.

    The area between the two distribution functions (Villani, "Optimal Transport", remark 2.19).
    """
    import numpy as np

    apart = np.cumsum(_shares(left), axis=1) - np.cumsum(_shares(right), axis=1)
    found: Floats = np.abs(apart).sum(axis=1, keepdims=True)
    return found


def jensen_shannon(left: "Floats", right: "Floats") -> "Floats":
    """Jensen-Shannon divergence between histograms (rows x bins), in bits; rows x 1 (Lin 1991)."""
    import numpy as np

    p, q = _shares(left), _shares(right)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(x > 0, x * np.log2(x / middle), 0.0) for x in (p, q)]
    found: Floats = np.clip(sum(terms).sum(axis=1, keepdims=True) / 2, 0.0, None)  # type: ignore[union-attr]
    missing = np.isnan(p[:, :1]) | np.isnan(q[:, :1])
    return np.where(missing, np.nan, found)


def _shares(counts: "Floats") -> "Floats":
    """Rows divided by their sums; NaN where a row is empty."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = counts / counts.sum(axis=1, keepdims=True)
    return found
