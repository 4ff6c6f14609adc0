"""Area under the ROC curve of scores that come from a cross-validation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def auc(scores: "Floats", positive: "NDArray[np.bool_]", fold: "Ints") -> float | None:
    """Chance that a positive scores above a negative of its fold, ties counting half.

    Only pairs within a fold are compared: scores of different folds come from different models.
    0.5 is chance, and the expectation under no difference. None without a pair.
    """
    import numpy as np

    value = float(weighted_auc(scores, positive, fold, np.ones((1, len(scores))))[0])
    return None if np.isnan(value) else value


def weighted_auc(
    scores: "Floats", positive: "NDArray[np.bool_]", fold: "Ints", weights: "Floats"
) -> "Floats":
    """The same for every row of `weights` (draws x scores): a turn counts as often as it says."""
    import numpy as np

    concordant = np.zeros(len(weights))
    pairs = np.zeros(len(weights))
    for number in np.unique(fold):
        inside = np.flatnonzero(fold == number)
        inside = inside[np.argsort(scores[inside], kind="stable")]
        ordered, is_positive = scores[inside], positive[inside]
        ups = weights[:, inside] * is_positive
        downs = weights[:, inside] * ~is_positive
        below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(downs, axis=1)], axis=1)
        first = np.searchsorted(ordered, ordered, side="left")
        last = np.searchsorted(ordered, ordered, side="right")
        concordant += (ups * (below[:, first] + below[:, last]) / 2).sum(axis=1)
        pairs += ups.sum(axis=1) * downs.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, concordant / pairs, np.nan)
