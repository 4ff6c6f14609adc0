"""Endings: does a simulated user leave when people do? Calibration first, discrimination beside it.

Whenever an answer is there, a person leaves or goes on. Where people leave is close to chance in
chat logs, so a model is judged by whether its probabilities come true, by round and overall; what
it tells about *who* leaves stands beside simple baselines.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usersim.fidelity.auc import weighted_auc
from usersim.fidelity.decisions import Decisions, logistic, rates_of_others
from usersim.fidelity.designs import Compared, Design, Summary, relative_error, sums_of
from usersim.fidelity.intervals import estimate, ratios, rounded
from usersim.fidelity.persons import Person, shuffled
from usersim.leaving import POOLED_ROUNDS, EndBias
from usersim.perplexity import TargetScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 10
FEWEST = 20
"""Decisions below which no curve is drawn and no baseline trained."""

DEFINITIONS = {
    "decision": "a moment at which an answer is there and the person leaves or types again",
    "probability": "the model's probability of the end token there, with its calibrated bias",
    "precision, recall, f1": "as the simulator decides: by drawing. Expected hits / expected "
    "leavings, expected hits / true leavings, and their harmonic mean",
    "f1_threshold": "F1 when leaving wherever the probability is above the threshold that was "
    "best on the other half of the people",
    "auc": "chance that the probability is higher where a person left than where one stayed",
    "always_end": "baseline: leaves after every answer",
    "rates": "real-real floor: the rate at which other people leave after so many rounds "
    f"({POOLED_ROUNDS} or more pooled), cross-fitted by person",
    "logistic": "baseline: logistic regression on round, lengths and politeness of the last turns, "
    "cross-fitted by person",
    "calibration_error": "mean distance between probability and rate of leaving over tenths of "
    "the decisions, weighted by their number",
    "by_round.error": "mean probability / true rate - 1, over the same decisions; its floor is the "
    "size of the same between the rates of two halves of the people",
}


def ending_figures(
    real: Sequence[Person],
    scores: Mapping[str, Sequence[TargetScore]],
    bias: Mapping[str, EndBias],
) -> dict[str, Any]:
    """How the models' decisions to leave compare with what people did; JSON-able.

    `scores` holds, by the model's role (`user_model`, `prompted`), what it made of every decision
    of `real`, `bias` what is added to the logit of leaving. Returns `decisions`, `true_rate`, for
    each model and baseline `precision`, `recall`, `f1`, `f1_threshold`, `auc`,
    `mean_probability`, `calibration_error`; and `by_round`, `calibration` (the curve) of the
    user model; `definitions`. `{"decisions": n}` alone where people never left or always did.
    """
    import numpy as np

    people = shuffled(real)  # folds take every n-th person
    every = Decisions.of(people)
    told = {name: every.probabilities(s, bias.get(name, 0.0)) for name, s in scores.items()}
    kept = np.all([np.isfinite(p) for p in told.values()], axis=0) if told else every.left >= 0
    decisions = every.only(kept)
    told = {name: p[kept] for name, p in told.items()}
    number = len(decisions.left)
    if number < FEWEST or not 0 < decisions.left.sum() < number:
        return {"decisions": number, "definitions": DEFINITIONS}
    design = Design.of(people, people)
    told |= {
        "always_end": np.ones(number),
        "rates": rates_of_others(decisions),
        "logistic": logistic(decisions),
    }
    table = {name: _discrimination(decisions, p, design) for name, p in told.items()}
    rate = _per_person(decisions, decisions.left)
    ones = np.ones((1, decisions.persons))
    true = estimate(float(rate(ones)[0, 0]), rate(design.real_draws)[:, 0])
    shown = told.get("user_model", told["rates"])
    return {
        "decisions": number,
        "true_rate": true,
        **table,
        "by_round": _by_round(decisions, shown, design),
        "calibration": calibration_curve(shown, decisions.left),
        "definitions": DEFINITIONS,
    }


def _per_person(decisions: Decisions, values: "Floats") -> Summary:
    """For weights: the mean of `values` over decisions; rows x 1."""
    import numpy as np

    sums = sums_of(decisions.persons, decisions.person, values[:, None])
    counts = sums_of(decisions.persons, decisions.person, np.ones((len(values), 1)))
    return lambda weights: ratios(weights, sums, counts)


def _discrimination(decisions: Decisions, probability: "Floats", design: Design) -> dict[str, Any]:
    """Precision, recall, F1, AUC and calibration of one way to decide, with intervals."""
    import numpy as np

    left = decisions.left
    rows = np.column_stack([probability * left, probability, left, np.ones_like(left)])
    sums = sums_of(decisions.persons, decisions.person, rows)

    def rates(weights: "Floats") -> "Floats":
        hits, leaving, leavers, number = (weights @ sums).T
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [hits / leaving, hits / leavers, 2 * hits / (leaving + leavers)]
            return np.column_stack([*parts, leaving / number])

    ones = np.ones((1, decisions.persons))
    values, draws = rates(ones)[0], rates(design.real_draws)
    names = ("precision", "recall", "f1", "mean_probability")
    table: dict[str, Any] = {
        name: estimate(float(values[n]), draws[:, n]) for n, name in enumerate(names)
    }
    fold = np.zeros(len(left), dtype=np.int64)
    areas = [
        weighted_auc(probability, left > 0, fold, weights[:, decisions.person])
        for weights in (ones, design.real_draws)
    ]
    table["auc"] = estimate(float(areas[0][0]), areas[1])
    table["f1_threshold"] = rounded(_threshold_f1(decisions, probability))
    curve = calibration_curve(probability, left)
    error = sum(b["decisions"] * abs(b["probability"] - b["rate"]) for b in curve) / len(left)
    return table | {"calibration_error": rounded(error)}


def _threshold_f1(decisions: Decisions, probability: "Floats") -> float:
    """F1 with the threshold that was best on the other half of the people."""
    import numpy as np

    half = decisions.person % 2
    leaves = np.zeros(len(probability), dtype=bool)
    for side in (0, 1):
        known = half != side
        best = best_threshold(probability[known], decisions.left[known])
        leaves[half == side] = probability[half == side] >= best
    hits = float((leaves * decisions.left).sum())
    return 2 * hits / max(1.0, float(leaves.sum() + decisions.left.sum()))


def best_threshold(probability: "Floats", left: "Floats") -> float:
    """The probability from which to leave so that F1 is largest; the lowest of equals."""
    import numpy as np

    if not len(probability):
        return 0.5
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(left[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + left.sum())
    # A threshold takes all decisions of equal probability: only the last of them counts.
    last = np.append(np.diff(probability[order]) != 0, True)
    f1 = np.where(last, f1, -1.0)
    return float(probability[order][int(np.flatnonzero(f1 == f1.max())[-1])])


def calibration_curve(probability: "Floats", left: "Floats") -> list[dict[str, float]]:
    """Mean probability, rate of leaving and number of decisions, in tenths by probability."""
    import numpy as np

    order = np.argsort(probability, kind="stable")
    return [
        {
            "probability": round(float(probability[part].mean()), 4),
            "rate": round(float(left[part].mean()), 4),
            "decisions": len(part),
        }
        for part in np.array_split(order, BINS)
        if len(part)
    ]


def _by_round(
    decisions: Decisions, probability: "Floats", design: Design
) -> dict[str, dict[str, Any]]:
    """True rate, mean probability and their relative error after each number of rounds."""
    import numpy as np

    table: dict[str, dict[str, Any]] = {}
    for rounds in range(1, POOLED_ROUNDS + 1):
        inside = decisions.rounds == rounds
        if not inside.any():
            continue
        part, chances = decisions.only(inside), probability[inside]
        truth, given = _per_person(part, part.left), _per_person(part, chances)

        def own(weights: "Floats", truth: Summary = truth, given: Summary = given) -> "Floats":
            return relative_error(given(weights), truth(weights))

        ones = np.ones((1, decisions.persons))
        error = Compared(
            own(ones)[0],
            own(design.real_draws),
            relative_error(truth(design.left), truth(design.right)),
            np.concatenate([own(design.left), own(design.right)]),
        )
        table[f"{rounds}{'+' if rounds == POOLED_ROUNDS else ''}"] = {
            "decisions": int(inside.sum()),
            "true_rate": estimate(float(truth(ones)[0, 0]), truth(design.real_draws)[:, 0]),
            "probability": estimate(float(given(ones)[0, 0]), given(design.real_draws)[:, 0]),
            "error": error.figure(0, signed=True),
        }
    return table
