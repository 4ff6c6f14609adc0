"""Decisions: the moments at which people left or went on, and simple ways to foretell them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersim.conversation import Conversation
from usersim.fidelity.persons import Person
from usersim.leaving import POOLED_ROUNDS, EndBias, bias_after, biased
from usersim.perplexity import TargetScore
from usersim.phrases import is_farewell
from usersim.surface import word_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Decisions:
    """Moments at which people left or went on, in arrays of one length."""

    person: "Ints"
    rounds: "Ints"
    """Answers so far, from 1; POOLED_ROUNDS stands for so many or more."""
    left: "Floats"
    """1 where the person left."""
    features: "Floats"
    persons: int
    keys: tuple[tuple[str, int], ...]
    """(conversation id, turn) of each."""

    @classmethod
    def of(cls, persons: Sequence[Person]) -> "Decisions":
        """Every decision that is known: a conversation that was cut off says nothing of its end."""
        import numpy as np

        rows = [
            (number, *decision)
            for number, person in enumerate(persons)
            for conversation in person.conversations
            for decision in _decisions(conversation)
        ]
        return cls(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([min(row[2] // 2, POOLED_ROUNDS) for row in rows], dtype=np.int64),
            np.array([row[3] for row in rows], dtype=float),
            np.array([row[4] for row in rows], dtype=float).reshape(len(rows), -1),
            len(persons),
            tuple((row[1], row[2]) for row in rows),
        )

    def probabilities(self, scores: Sequence[TargetScore], bias: EndBias) -> "Floats":
        """What a model gave for each decision, its bias added; NaN where it was not asked."""
        import numpy as np

        told = {(s.conversation_id, s.turn): s.end_probability for s in scores}
        found = [
            biased(told[key], bias_after(int(rounds), bias)) if key in told else np.nan
            for key, rounds in zip(self.keys, self.rounds, strict=True)
        ]
        return np.array(found, dtype=float)

    def only(self, kept: Any) -> "Decisions":
        """Those at which `kept` is true."""
        keys = tuple(key for key, keep in zip(self.keys, kept, strict=True) if keep)
        columns = (self.person[kept], self.rounds[kept], self.left[kept], self.features[kept])
        return Decisions(*columns, self.persons, keys)


def _decisions(conversation: Conversation) -> list[tuple[str, int, float, list[float]]]:
    """(conversation, turn, left, features) after every answer whose sequel is known."""
    turns = conversation.turns
    ended = conversation.stop_reason == "user_ended"
    found = []
    for n in range(2, len(turns) + 1, 2):
        if n == len(turns) and not ended:
            continue
        asked, answer = turns[n - 2].content, turns[n - 1].content
        features = [
            math.log(n // 2),
            math.log1p(word_count(asked)),
            math.log1p(word_count(answer)),
            float("?" in answer[-200:]),
            float(is_farewell(asked)),
            float("```" in answer),
        ]
        found.append((conversation.id, n, float(n == len(turns)), features))
    return found


def rates_of_others(decisions: Decisions) -> "Floats":
    """For each decision the rate at which people of other folds leave after so many rounds."""
    import numpy as np

    fold, found = decisions.person % FOLDS, np.zeros(len(decisions.left))
    for number in range(FOLDS):
        known = fold != number
        overall = decisions.left[known].mean() if known.any() else 0.0
        for rounds in np.unique(decisions.rounds):
            same = known & (decisions.rounds == rounds)
            rate = decisions.left[same].mean() if same.any() else overall
            found[(fold == number) & (decisions.rounds == rounds)] = rate
    return found


def logistic(decisions: Decisions) -> "Floats":
    """For each decision what a logistic model gives that was fitted on people of other folds."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fold, found = decisions.person % FOLDS, np.zeros(len(decisions.left))
    for number in range(FOLDS):
        known, asked = fold != number, fold == number
        if not asked.any():
            continue
        if len(np.unique(decisions.left[known])) < 2:
            found[asked] = decisions.left[known].mean() if known.any() else 0.5
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(decisions.features[known], decisions.left[known])
        found[asked] = model.predict_proba(decisions.features[asked])[:, 1]
    return found
