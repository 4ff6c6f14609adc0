"""A first look at conversations: which rules may have something against them?

Nearly every rule has nothing to say of nearly every conversation. One pass over the bytes of each
turn for all wordings (`pipelines.screen`) and one over its words (`pipelines.repetition_kernel`)
tell which rules are worth asking. The plain rules decide; none is spared that would find anything.
"""

from collections.abc import Sequence
from typing import Any

from pipelines.filters import SHORT_WORDS, FilterSettings
from pipelines.screen import Screen
from usersim import encoding, personal_data, phrases
from usersim.conversation import Conversation
from usersim.shingling import character_table, packed, word_hash, words

ALWAYS = frozenset({"engine_error", "no_answer", "blank_turn", "length", "truncated"})
"""Rules that cost nothing."""

SIGNS = {
    "template_leak": (phrases.TEMPLATE_TOKEN,),
    "reasoning_leak": (phrases.REASONING_TAG,),
    "transcript": (phrases.LABEL,),
    "goodbye_loop": (phrases.FAREWELL,),
    "encoding_damage": (encoding.UNUSUAL,),
    "personal": personal_data.FORMS,
    "user_answers": (
        phrases.ASSISTANT_OPENING,
        phrases.USER_NAMES_ITSELF,
        phrases.CLOSING_OFFER,
        phrases.LISTED_ANSWER,
    ),
    "placeholder": (personal_data.PLACEHOLDER,),
    "assistant_asks": (phrases.ASSISTANT_AS_USER,),
    "self_naming": (phrases.SELF_NAMING,),
    "refusal": (phrases.REFUSAL,),
}
"""Of rules (and a tag) the patterns without which they find nothing in a turn."""

_OF_USERS = frozenset({"user_answers", "placeholder"})
_OF_ANSWERS = frozenset({"assistant_asks", "self_naming", "refusal"})
_COUNT = {
    "system": frozenset(SIGNS),
    "user": frozenset(SIGNS) - _OF_ANSWERS,
    "assistant": frozenset(SIGNS) - _OF_USERS,
}
_AT_ONCE = 64  # conversations whose words are looked at together


class FirstLook:
    """Looks at batches of conversations by a recipe's settings."""

    def __init__(self, settings: FilterSettings) -> None:
        from pipelines.repetition_kernel import Limits

        blocked = {word.casefold() for word in settings.blocked_words}
        listed = phrases.SLURS | {word_hash(word) for word in blocked if words(word) == [word]}
        self._limits = Limits.of(settings, SHORT_WORDS, listed)
        self._screen = Screen(SIGNS)
        # Nobody knows by which words a model finds persons and places.
        by_form = settings.personal_data_finder == "light"
        self._always = ALWAYS if by_form else ALWAYS | {"personal"}

    def ask(self, conversations: Sequence[Conversation]) -> list[set[str]]:
        """Of each conversation the reasons (and `placeholder`) that may be found in it."""
        found: list[set[str]] = []
        for start in range(0, len(conversations), _AT_ONCE):
            part = conversations[start : start + _AT_ONCE]
            found += map(self._signs, part)
            self._add_words(part, found[start:])
        return found

    def _signs(self, conversation: Conversation) -> set[str]:
        found = set(self._always)
        for message in conversation.messages:
            if held := self._screen.may_hold(message.content):
                found |= held & _COUNT[message.role]
        return found

    def _add_words(self, conversations: Sequence[Conversation], found: Sequence[set[str]]) -> None:
        import numpy as np

        from pipelines.repetition_kernel import FOUND, look

        turns = [conversation.turns for conversation in conversations]
        firsts = np.cumsum([0, *map(len, turns)])
        told: Any = np.empty((len(turns), len(FOUND)), dtype=np.bool_)
        text = packed([turn.content for each in turns for turn in each])
        look(text, firsts, character_table(), self._limits, told)
        for row, column in zip(*(axis.tolist() for axis in told.nonzero()), strict=True):
            found[row].add(FOUND[column])
