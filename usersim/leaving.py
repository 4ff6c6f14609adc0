"""When people leave: their rates, round by round, and what makes a UserGPT leave as often."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from usersim.conversation import Conversation

if TYPE_CHECKING:
    from usersim.perplexity import TargetScore

POOLED_ROUNDS = 9
STEPS = 50
LARGEST_BIAS = 40.0

EndBias = float | Annotated[tuple[float, ...], Field(min_length=1)]
"""What is added to the logit of leaving: always the same, or after one round, after two, ...; the
last one also after more."""


def bias_after(rounds: int, bias: EndBias) -> float:
    """What is added after so many rounds (at least one)."""
    return bias[min(rounds, len(bias)) - 1] if isinstance(bias, tuple) else bias


def sum_of(one: EndBias, other: EndBias) -> EndBias:
    """Both together, round by round."""
    longest = max(len(bias) if isinstance(bias, tuple) else 1 for bias in (one, other))
    both = (bias_after(n, one) + bias_after(n, other) for n in range(1, longest + 1))
    return tuple(both) if longest > 1 else next(both)


def learned_bias(about: Mapping[str, Any]) -> EndBias:
    """What training measured, as it noted beside the checkpoint; one figure in older ones."""
    found = about.get("end_bias", 0.0)
    return tuple(map(float, found)) if isinstance(found, list) else float(found)


def biased(probability: float, bias: float) -> float:
    """A probability after `bias` was added to its logit."""
    odds = probability * math.exp(bias)
    return odds / (1 - probability + odds)


def leaving_rates(conversations: Iterable[Conversation]) -> dict[int, float]:
    """Of those who had k rounds, the share that left then; from 9 rounds on pooled under 9.

    Conversations that were cut off count as staying for as long as they are known to have.
    """
    reached, left = Counter[int](), Counter[int]()
    for conversation in conversations:
        ended = conversation.stop_reason == "user_ended"
        last = conversation.num_rounds
        went_on = len(conversation.turns) % 2  # a turn that nobody answered: they had stayed
        for rounds in range(1, last + (1 if ended or went_on else 0)):
            reached[min(rounds, POOLED_ROUNDS)] += 1
        if ended and not went_on:
            left[min(last, POOLED_ROUNDS)] += 1
    return {rounds: left[rounds] / number for rounds, number in sorted(reached.items())}


def calibrating_bias(scores: Iterable["TargetScore"], rates: Mapping[int, float]) -> EndBias:
    """What to add to the end token's logit so that people's rates of leaving come out.

    Over the decisions in `scores` after the first answer, at whose rounds `rates` says how many
    leave; 0.0 where there is nothing to learn from. The bias is a + b ln(rounds), since that is how
    the logit of people's rates falls, and c more where all later rounds are pooled. Of the largest
    likelihood (Newton's method), at which the model's mean probability is people's mean rate: in
    the pooled rounds, in the others, and in those weighted by ln(rounds).
    """
    import numpy as np

    decisions = [s for s in scores if s.turn > 0]
    rounds = [min(s.turn // 2, POOLED_ROUNDS) for s in decisions]
    wanted = np.array([rates.get(n, 0.0) for n in rounds])
    if not 0 < wanted.sum() < len(wanted):
        return 0.0
    given = _logit(np.clip([s.end_probability for s in decisions], 1e-9, 1 - 1e-9))
    columns = np.array([_terms(n) for n in rounds])
    fitted = np.array([_logit(wanted.mean()) - given.mean(), 0.0, 0.0])  # near, or steps are none
    for _ in range(STEPS):
        found = 1 / (1 + np.exp(-(given + columns @ fitted)))
        slope = (columns * (found * (1 - found))[:, None]).T @ columns
        step = np.linalg.pinv(slope) @ (columns.T @ (wanted - found))
        fitted = np.clip(fitted + np.clip(step, -2, 2), -LARGEST_BIAS, LARGEST_BIAS)
    return tuple(round(float(fitted @ _terms(n)), 3) for n in range(1, POOLED_ROUNDS + 1))


def _terms(rounds: int) -> list[float]:
    return [1.0, math.log(rounds), float(rounds == POOLED_ROUNDS)]


def _logit(probability: Any) -> Any:
    import numpy as np

    return np.log(probability / (1 - probability))


def end_table(scores: Sequence["TargetScore"], bias: EndBias = 0.0) -> dict[str, Any]:
    """How the learned end, biased, compares with what people did after the first answer."""
    decisions = [(s, bias_after(s.turn // 2, bias)) for s in scores if s.turn > 0]
    ends = [biased(s.end_probability, more) for s, more in decisions if s.is_end]
    goes_on = [biased(s.end_probability, more) for s, more in decisions if not s.is_end]
    if not ends or not goes_on:
        return {"decisions": len(decisions)}
    return {
        "decisions": len(decisions),
        "true_rate": round(len(ends) / len(decisions), 4),
        "mean_probability": round((sum(ends) + sum(goes_on)) / len(decisions), 4),
        "mean_where_people_left": round(sum(ends) / len(ends), 4),
        "mean_where_people_stayed": round(sum(goes_on) / len(goes_on), 4),
    }
