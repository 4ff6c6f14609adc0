"""Bootstrap over persons: how far a figure would move had other people been asked.

A draw is a count for each person, how often they were drawn; a figure that is a ratio of sums, a
median or an AUC is computed for all draws at once from the matrix of counts.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 1_000
LEVEL = (0.025, 0.975)


def person_draws(number: int, draws: int = DRAWS, seed: int = 0) -> "Floats":
    """Counts of shape (draws, number): each row draws `number` persons with replacement."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return generator.multinomial(number, np.full(number, 1 / number), size=draws).astype(float)


def interval(samples: Any) -> tuple[float, float] | None:
    """The middle 95 % of what the draws gave; None when hardly any draw gave a figure."""
    import numpy as np

    values = np.asarray(samples, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 20:
        return None
    low, high = np.quantile(values, LEVEL)
    return float(low), float(high)


def estimate(value: float | None, samples: Any) -> dict[str, float | None]:
    """`value`, `low`, `high` for JSON, to four digits; None where there is none."""
    found = interval(samples) if value is not None else None
    low, high = found or (None, None)
    return {"value": rounded(value), "low": rounded(low), "high": rounded(high)}


def rounded(value: float | None) -> float | None:
    """To four decimals; None for what is no finite number."""
    import math

    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def ratios(draws: "Floats", numerators: "Floats", denominators: "Floats") -> "Floats":
    """Sum over sum of every draw; both have one row a person. NaN where the lower sum is 0."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return (draws @ numerators) / (draws @ denominators)


def weighted_medians(draws: "Floats", values: "Floats", person: "NDArray[np.int64]") -> "Floats":
    """Median of the values of every draw; value i belongs to `person[i]`. NaN without any.

    The smallest value up to which at least half of the weight lies, as `numpy.quantile` with the
    method `inverted_cdf`.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    below = np.cumsum(draws[:, person[order]], axis=1)
    if not below.shape[1]:
        return np.full(len(draws), np.nan)
    reached = below >= below[:, -1:] / 2
    found: Floats = values[order][reached.argmax(axis=1)].astype(float)
    return np.where(below[:, -1] > 0, found, np.nan)
