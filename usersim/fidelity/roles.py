"""Role adherence: does a simulated user stay a user, or begin to answer; does the talk go round?"""

from collections.abc import Mapping, Sequence
from typing import Any

from usersim.conversation import Conversation
from usersim.fidelity.classifiers import FastTextClassifier
from usersim.fidelity.persons import Person, conversations_of, shuffled
from usersim.fidelity.shares import plain_share, share_figure
from usersim.guards import is_parroting, loop_among, words_of
from usersim.phrases import assistant_voice

FEWEST_WORDS = 5
"""Shorter turns are nobody's: "yes" may be said by either."""
FEWEST_TURNS = 20
SURE = 0.5
LOOPS = frozenset({"repetition", "goodbye_loop", "refusal_loop", "bad_turn", "error"})
"""Stop reasons of conversations that broke down."""
REFUSALS = 2

DEFINITIONS = {
    "confusion": "share of user turns that speak as an assistant does (the guard's wordings). "
    "Simulated turns that stand have passed that guard: see confusion_of_attempts",
    "confusion_of_attempts": "refused for role confusion / all user turns that were drawn",
    "taken_for_assistant": "share of user turns of five words or more that a fastText classifier "
    "takes for an assistant's; trained on both speakers' turns of one half of the real people, "
    "asked about the other half (the floor) and about simulated users, both ways round",
    "broken_down": "share of conversations that ended in repetition, a loop of goodbyes or "
    "refusals, no acceptable turn, or an error; of real people: in which the same rules would "
    "have ended theirs",
}


def role_figures(
    simulated: Sequence[Person],
    real: Sequence[Person],
    prompted: Sequence[Person] = (),
    of_attempts: float | None = None,
) -> dict[str, Any]:
    """`confusion`, `taken_for_assistant`, `broken_down`: shares as in `shares.share_figure`.

    And `confusion_of_attempts`, which the run's own counts give, as it is; `definitions`.
    `taken_for_assistant` is None with too few turns to learn from.
    """
    sides = simulated, real, prompted
    table: dict[str, Any] = {
        "confusion": share_figure(*sides, _confused),
        "confusion_of_attempts": of_attempts,
        "taken_for_assistant": _taken(*sides),
        "broken_down": share_figure(*sides, _broken),
    }
    return table | {"definitions": DEFINITIONS}


def _confused(conversations: Sequence[Conversation]) -> list[list[float]]:
    return [
        [float(assistant_voice(turn, n == 0) is not None) for n, turn in enumerate(c.user_turns)]
        for c in conversations
    ]


def confusion_of_attempts(guards: Mapping[str, float], stood: int) -> float | None:
    """Share of all user turns that were drawn in a run which a guard refused for role confusion.

    `guards` are refused turns by `role:reason`, as in metrics.json, `stood` those that no guard
    refused: the turns that stand, and candidates that were passed over.
    """
    refused = {key: int(n) for key, n in guards.items() if key.startswith("user:")}
    return plain_share(refused.get("user:role_confusion", 0), stood + sum(refused.values()))


def _broken(conversations: Sequence[Conversation]) -> list[list[float]]:
    return [[float(has_broken_down(c))] for c in conversations]


def has_broken_down(conversation: Conversation) -> bool:
    """Whether it ended in a loop or without an acceptable turn; of a real one, would have."""
    if conversation.stop_reason in LOOPS:
        return True
    turns = conversation.turns
    for n in range(2, len(turns) + 1, 2):
        asked = turns[n - 2].content
        if is_parroting(words_of(asked), turns[: n - 2]) or loop_among(turns[:n], REFUSALS):
            return True
    return False


class _Speaker:
    """Tells who speaks, learned from some people's conversations."""

    def __init__(self, known: Sequence[Conversation], asked: Sequence[Conversation]) -> None:
        import numpy as np

        users = [t for c in known for t in c.user_turns if _long(t)]
        assistants = [t for c in known for t in c.assistant_turns if _long(t)]
        wanted = [(n, t) for n, c in enumerate(asked) for t in c.user_turns if _long(t)]
        # As many of both: what is asked about decides, not how often either speaks.
        size = min(len(users), len(assistants))
        self.enough = size >= FEWEST_TURNS
        texts = [*users[:size], *assistants[:size], *(t for _, t in wanted)]
        self.taken: list[list[float]] = [[] for _ in asked]
        if not self.enough:
            return
        labels = np.arange(2 * size) >= size
        scores = FastTextClassifier(texts).scores(
            np.arange(2 * size), labels, np.arange(2 * size, len(texts))
        )
        for (n, _), score in zip(wanted, scores.tolist(), strict=True):
            self.taken[n].append(float(score > SURE))


def _long(text: str) -> bool:
    return len(text.split()) >= FEWEST_WORDS


def _taken(
    simulated: Sequence[Person], real: Sequence[Person], prompted: Sequence[Person]
) -> dict[str, Any] | None:
    """Both halves of the people teach in turn, and are asked about when the other taught."""
    order = shuffled(real)
    halves = [conversations_of(order[side::2]) for side in (0, 1)]
    half_of = {c.id: side for side, half in enumerate(halves) for c in half}
    others = [*conversations_of(simulated), *conversations_of(prompted)]
    answers: dict[tuple[str, bool], list[float]] = {}
    for side in (0, 1):
        asked = [*halves[1 - side], *others]
        speaker = _Speaker(halves[side], asked)
        if not speaker.enough:
            return None
        for n, (conversation, taken) in enumerate(zip(asked, speaker.taken, strict=True)):
            key = conversation.id, n < len(halves[1 - side])
            before = answers.get(key)
            answers[key] = (
                taken
                if before is None
                else [(a + b) / 2 for a, b in zip(before, taken, strict=True)]
            )

    def test(conversations: Sequence[Conversation]) -> list[list[float]]:
        return [answers[c.id, c.id in half_of] for c in conversations]

    return share_figure(simulated, real, prompted, test)
