"""Held-out likelihood: how surprised a model is by what people (or assistants) really wrote."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersim.conversation import Conversation
from usersim.progress import track
from usersim.rows import Row

if TYPE_CHECKING:
    import torch

BOOTSTRAP_DRAWS = 2_000
POOLED_ROUNDS = 9


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


def leaving_rates(conversations: Iterable[Conversation]) -> dict[int, float]:
    """Of those who had k rounds, the share that left then; from 9 rounds on pooled under 9.

    Conversations that were cut off count as staying for as long as they are known to have.
    """
    reached, left = Counter[int](), Counter[int]()
    for conversation in conversations:
        ended = conversation.stop_reason == "user_ended"
        last = conversation.num_rounds
        for rounds in range(1, last + (1 if ended else 0)):
            reached[min(rounds, POOLED_ROUNDS)] += 1
        if ended:
            left[min(last, POOLED_ROUNDS)] += 1
    return {rounds: left[rounds] / number for rounds, number in sorted(reached.items())}


def calibrating_bias(scores: Iterable[TargetScore], rates: Mapping[int, float]) -> float:
    """What to add to the end token's logit so that people's rates of leaving come out.

    Over the decisions in `scores` after the first answer, at whose rounds `rates` says how many
    leave; 0.0 where there is nothing to learn from. By bisection: the mean of
    p e^b / (1 - p + p e^b) rises with b.
    """
    decisions = [s for s in scores if s.turn > 0]
    wanted = sum(rates.get(min(s.turn // 2, POOLED_ROUNDS), 0.0) for s in decisions)
    if not 0 < wanted < len(decisions):
        return 0.0
    low, high = -20.0, 20.0
    for _ in range(40):
        bias = (low + high) / 2
        leaving = sum(biased(s.end_probability, bias) for s in decisions)
        low, high = (bias, high) if leaving < wanted else (low, bias)
    return round((low + high) / 2, 3)


def biased(probability: float, bias: float) -> float:
    """A probability after `bias` was added to its logit."""
    odds = probability * math.exp(bias)
    return odds / (1 - probability + odds)


def end_table(scores: Sequence[TargetScore], bias: float = 0.0) -> dict[str, Any]:
    """How the learned end, biased, compares with what people did after the first answer."""
    decisions = [s for s in scores if s.turn > 0]
    ends = [biased(s.end_probability, bias) for s in decisions if s.is_end]
    goes_on = [biased(s.end_probability, bias) for s in decisions if not s.is_end]
    if not ends or not goes_on:
        return {"decisions": len(decisions)}
    return {
        "decisions": len(decisions),
        "true_rate": round(len(ends) / len(decisions), 4),
        "mean_probability": round((sum(ends) + sum(goes_on)) / len(decisions), 4),
        "mean_where_people_left": round(sum(ends) / len(ends), 4),
        "mean_where_people_stayed": round(sum(goes_on) / len(goes_on), 4),
    }
