"""Held-out likelihood: how surprised a model is by what people (or assistants) really wrote."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersim.progress import track
from usersim.rows import Row

if TYPE_CHECKING:
    import torch

BOOTSTRAP_DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class TargetScore:
    """What a model made of one labelled turn (or of one decision to leave)."""

    conversation_id: str
    turn: int
    nll: float
    """Negative log likelihood of the whole turn, its end token included, in nats."""
    tokens: int
    end_probability: float
    """Probability of the end-of-conversation token where the turn begins."""
    is_end: bool


def score_rows(
    model: "torch.nn.Module", rows: Sequence[Row], end_id: int, title: str
) -> list[TargetScore]:
    """Score every target of every row; the model sees each row once."""
    import torch

    scores: list[TargetScore] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode(), track(title, total=len(rows), unit="rows") as bar:
        for row in rows:
            scores += _score_row(model, row, end_id)
            bar.advance(1)
    model.train(was_training)
    return scores


def summed_nll(model: "torch.nn.Module", rows: Sequence[Row], end_id: int) -> tuple[float, float]:
    """Nats over the turns of rows (decisions to leave are left out), and how many tokens."""
    import torch

    was_training = model.training
    model.eval()
    with torch.inference_mode():
        sums = _sums(s for row in rows for s in _score_row(model, row, end_id) if not s.is_end)
    model.train(was_training)
    return float(sums[0]), float(sums[1])


def _score_row(model: "torch.nn.Module", row: Row, end_id: int) -> list[TargetScore]:
    import torch

    device = next(model.parameters()).device
    ids = torch.tensor([row.input_ids], device=device)
    # Position p is predicted by the logits at p - 1; only those positions go through the head.
    positions = torch.tensor(
        [p - 1 for t in row.targets for p in range(t.start, t.stop)], device=device
    )
    logits = model(input_ids=ids, logits_to_keep=positions).logits[0].float()
    log_probs = logits.log_softmax(-1)
    picked = log_probs.gather(-1, ids[0, positions + 1].unsqueeze(-1)).squeeze(-1).tolist()
    ends = log_probs[:, end_id].exp().tolist()
    scores, begin = [], 0
    for t in row.targets:
        size = t.stop - t.start
        nll = -sum(picked[begin : begin + size])
        scores.append(TargetScore(row.conversation_id, t.turn, nll, size, ends[begin], t.is_end))
        begin += size
    return scores


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % bootstrap interval over what it is the mean of."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Rounded for metrics.json."""
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def mean_nll(scores: Iterable[TargetScore]) -> Interval:
    """Nats per token over turns (decisions to leave are left out), with its interval."""
    return _bootstrap([_sums(s) for s in by_conversation(scores).values()])


def interval(values: Iterable[float]) -> Interval:
    """The mean with its 95 % percentile bootstrap interval. Raises ValueError without values."""
    if not (sums := [(value, 1) for value in values]):
        raise ValueError("no values to average")
    return _bootstrap(sums)


def nll_difference(before: Iterable[TargetScore], after: Iterable[TargetScore]) -> Interval:
    """Paired difference after - before in nats per token; negative is better."""
    first, second = by_conversation(before), by_conversation(after)
    assert first.keys() == second.keys()
    sums = []
    for key in first:
        (nll_before, tokens), (nll_after, _) = _sums(first[key]), _sums(second[key])
        sums.append((nll_after - nll_before, tokens))
    return _bootstrap(sums)


def by_conversation(scores: Iterable[TargetScore]) -> dict[str, list[TargetScore]]:
    """Scores of turns, grouped by conversation."""
    groups: dict[str, list[TargetScore]] = {}
    for score in scores:
        if not score.is_end:
            groups.setdefault(score.conversation_id, []).append(score)
    return groups


def _sums(scores: Iterable[TargetScore]) -> tuple[float, int]:
    scores = list(scores)
    return sum(s.nll for s in scores), sum(s.tokens for s in scores)


def _bootstrap(sums: Sequence[tuple[float, int]]) -> Interval:
    """Ratio of sums, resampled by conversation: people are the unit, not tokens."""
    import numpy as np

    totals = np.array(sums, dtype=float)
    draws = np.random.default_rng(0).integers(0, len(totals), (BOOTSTRAP_DRAWS, len(totals)))
    sampled = totals[draws].sum(axis=1)
    low, high = np.quantile(sampled[:, 0] / sampled[:, 1], [0.025, 0.975])
    return Interval(totals[:, 0].sum() / totals[:, 1].sum(), float(low), float(high))


def perplexity(scores: Iterable[TargetScore], where: Callable[[TargetScore], bool]) -> float | None:
    """The exponential of the mean nats per token over what `where` picks; None without any."""
    nll, tokens = _sums(s for s in scores if not s.is_end and where(s))
    return round(math.exp(nll / tokens), 3) if tokens else None


def perplexity_table(scores: Sequence[TargetScore]) -> dict[str, Any]:
    """Perplexity over all turns with its interval, over first turns and over later ones."""
    nll = mean_nll(scores)
    return {
        "all": round(math.exp(nll.mean), 3),
        "low": round(math.exp(nll.low), 3),
        "high": round(math.exp(nll.high), 3),
        "first": perplexity(scores, lambda s: s.turn == 0),
        "later": perplexity(scores, lambda s: s.turn > 0),
    }
