"""What judgements add up to: means with intervals, agreement, the curve by turn, length's part."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assistant.characters.judging import Judgement
from usersim.perplexity import interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCORES = 7


def weighted_kappa(first: Sequence[int], second: Sequence[int]) -> float | None:
    """Cohen's kappa with quadratic weights, of scores 1 to 7; None where chance alone agrees.

    Source: Cohen, "Weighted kappa", Psychological Bulletin 70, 1968.
    """
    import numpy as np

    if not first:
        return None
    observed = np.zeros((SCORES, SCORES))
    for a, b in zip(first, second, strict=True):
        observed[a - 1, b - 1] += 1
    observed /= observed.sum()
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    weights = np.subtract.outer(np.arange(SCORES), np.arange(SCORES)) ** 2
    by_chance = float((weights * expected).sum())
    return None if by_chance == 0 else round(1 - float((weights * observed).sum()) / by_chance, 4)


def icc(ratings: Sequence[Sequence[float]]) -> float | None:
    """ICC(2,1) of a table of targets by raters: absolute agreement of a single rating.

    Source: Shrout and Fleiss, "Intraclass correlations", Psychological Bulletin 86, 1979. None
    with fewer than two targets or raters, or where nothing varies.
    """
    import numpy as np

    table = np.array(ratings, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    targets, raters = table.shape
    grand = table.mean()
    between_targets = raters * ((table.mean(axis=1) - grand) ** 2).sum() / (targets - 1)
    between_raters = targets * ((table.mean(axis=0) - grand) ** 2).sum() / (raters - 1)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + grand
    error = (rest**2).sum() / ((targets - 1) * (raters - 1))
    below = between_targets + (raters - 1) * error + raters * (between_raters - error) / targets
    return None if below == 0 else round(float((between_targets - error) / below), 4)


def summary(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """By dimension: mean with interval over interviews, and how far repeats agree."""
    result: dict[str, Any] = {}
    for dimension, found in _grouped(judgements, lambda j: j.dimension).items():
        by_interview = _grouped(found, lambda j: j.interview)
        means = [sum(j.score for j in js) / len(js) for js in by_interview.values()]
        result[dimension] = {
            "judgements": len(found),
            "mean": interval(means).to_dict(),
            "repeats": repeat_agreement(found),
        }
    return result


def repeat_agreement(judgements: Sequence[Judgement]) -> dict[str, float | None]:
    """How far one judge agrees with itself on the same reply, first against second draw."""
    table = _by_reply(judgements)
    rows = [[by[0], by[1]] for by in table.values() if 0 in by and 1 in by]
    pairs = [r[0] for r in rows], [r[1] for r in rows]
    return {"kappa": weighted_kappa(*pairs), "icc": icc(rows), "replies": len(rows)}


def judge_agreement(
    first: Sequence[Judgement], second: Sequence[Judgement]
) -> dict[str, dict[str, float | None]]:
    """By dimension: two judges on the same replies, first draw of each."""
    result: dict[str, dict[str, float | None]] = {}
    for dimension in sorted({j.dimension for j in first}):
        tables = [_by_reply([j for j in js if j.dimension == dimension]) for js in (first, second)]
        both = [k for k in tables[0] if 0 in tables[0][k] and 0 in tables[1].get(k, {})]
        rows = [[tables[0][k][0], tables[1][k][0]] for k in both]
        pairs = [r[0] for r in rows], [r[1] for r in rows]
        figures = {"kappa": weighted_kappa(*pairs), "icc": icc(rows), "replies": len(rows)}
        result[dimension] = figures
    return result


def stability_curve(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Mean stability by turn, with intervals: a curve, not one number."""
    stable = [j for j in judgements if j.dimension == "stability"]
    turns = sorted(_grouped(stable, lambda j: j.turn).items())
    return [
        {"turn": turn, "judgements": len(js), **interval([j.score for j in js]).to_dict()}
        for turn, js in turns
    ]


def length_controlled(sides: Mapping[str, Sequence[Judgement]]) -> dict[str, dict[str, float]]:
    """Means of several models' scores as they would be were all replies of one length.

    Least squares of score on one offset a model and the log of the reply's words; the mean is taken
    at the pooled mean length. Returns `plain` and `controlled` by model.
    """
    import numpy as np

    names = [n for n, js in sides.items() if js]
    if not names:
        return {}
    pooled = [(k, j) for k, n in enumerate(names) for j in sides[n]]
    lengths = np.log([max(1, j.words) for _, j in pooled])
    scores = np.array([j.score for _, j in pooled], dtype=float)
    offsets = np.zeros((len(pooled), len(names)))
    offsets[np.arange(len(pooled)), [k for k, _ in pooled]] = 1.0
    design = np.column_stack([offsets, lengths - lengths.mean()])
    fitted: NDArray[np.float64] = np.linalg.lstsq(design, scores, rcond=None)[0]
    plain = [float(np.mean([j.score for j in sides[n]])) for n in names]
    return {
        name: {"plain": round(plain[k], 4), "controlled": round(float(fitted[k]), 4)}
        for k, name in enumerate(names)
    }


def _by_reply(judgements: Sequence[Judgement]) -> dict[tuple[int, int, str], dict[int, int]]:
    table: dict[tuple[int, int, str], dict[int, int]] = defaultdict(dict)
    for j in judgements:
        table[j.interview, j.turn, j.dimension][j.repeat] = j.score
    return table


def _grouped(
    judgements: Sequence[Judgement], key: Callable[[Judgement], Any]
) -> dict[Any, list[Judgement]]:
    groups: dict[Any, list[Judgement]] = {}
    for judgement in judgements:
        groups.setdefault(key(judgement), []).append(judgement)
    return groups
