"""Guards: is this a turn that its speaker could have said? Cheap, and right when they refuse.

A refused turn is drawn again as a whole, never edited. The rules are few and precise on purpose:
what they let through, curation judges with the whole corpus in sight.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from usersim import phrases
from usersim.conversation import Message, Role
from usersim.language import UNDETERMINED, language_id

if TYPE_CHECKING:
    from usersim.language import LanguageId

GuardReason = Literal[
    "empty",  # nothing was said (or the user left before they may)
    "cut_off",  # a user turn that ran into the token limit: people finish their sentences
    "template_tokens",  # the chat template's own tokens, spelled out
    "reasoning_leak",  # a reasoning model's thoughts, in tags of their own
    "role_confusion",  # a user who talks like an assistant
    "wrong_language",  # a user who goes on in a language that nobody has used before
    "looping",  # the same few words over and over
    "parroting",  # what the other side, or the speaker, said before
    "near_duplicate_opener",  # another conversation began like this
]

_WORD = re.compile(r"\w+")

LOOP_WORDS = 30  # shorter turns may repeat themselves: lists, verses, emphasis
LOOP_DISTINCT = 0.35  # share of distinct three-word runs below which a turn goes round in circles
PARROT_WORDS = 4  # "yes", "go on", "thank you very much" may be said again
PARROT_SHARE = 0.8  # of a turn's five-word runs, said before in one other turn
SHINGLE = 5
FOREIGN_LETTERS = 60  # about twelve words: shorter turns, names and code are told wrongly
FOREIGN_PROBABILITY = 0.9  # as sure as ingest must be to drop a person for their language


def words_of(text: str) -> list[str]:
    """Words without case and punctuation."""
    return _WORD.findall(text.casefold())


def refuse_turn(
    text: str, role: Role, finish: str, before: Sequence[Message]
) -> GuardReason | None:
    """Why this turn of `role` after `before` is refused, or None."""
    if not text.strip():
        return "empty"
    if reason := _leaked(text):
        return reason
    if role == "user" and (reason := _unlike_a_person(text, finish, at_start=not before)):
        return reason
    words = words_of(text)
    if is_looping(words):
        return "looping"
    # A refusal in the same words again is a refusal still: `loop_among` counts them.
    again = is_parroting(words, before) and not (role == "assistant" and phrases.is_refusal(text))
    return "parroting" if again else None


def _leaked(text: str) -> GuardReason | None:
    if phrases.TEMPLATE_TOKEN.search(text) or phrases.SPEAKER_LABEL.search(text):
        return "template_tokens"
    return "reasoning_leak" if phrases.REASONING_TAG.search(text) else None


def is_foreign(
    text: str, before: Sequence[Message], identify: "Callable[[], LanguageId]" = language_id
) -> bool:
    """Whether a user's turn is surely in a language that no message before it is in.

    An opener never is: what language a conversation has is its own affair, and curation's.
    """
    mine = [m.content for m in before if m.role == "user"]
    if not mine or sum(map(str.isalpha, text)) < FOREIGN_LETTERS:
        return False
    told, usual = identify().detect([text, "\n".join(mine)])
    if told.code == usual.code or told.probability < FOREIGN_PROBABILITY:
        return False
    heard = identify().detect([m.content for m in before if m.role != "system"])
    return usual.code != UNDETERMINED and told.code not in {each.code for each in heard}


def _unlike_a_person(text: str, finish: str, at_start: bool) -> GuardReason | None:
    if finish == "length":
        return "cut_off"
    return "role_confusion" if phrases.assistant_voice(text, at_start) else None


def is_looping(words: Sequence[str]) -> bool:
    """Whether a turn goes round in circles: few distinct three-word runs among many words."""
    if len(words) < LOOP_WORDS:
        return False
    runs = _runs(words, 3)
    return len(set(runs)) < LOOP_DISTINCT * len(runs)


def is_parroting(words: Sequence[str], before: Sequence[Message]) -> bool:
    """Whether a turn says again what somebody said before, word by word or almost."""
    if len(words) <= PARROT_WORDS:
        return False
    runs = set(_runs(words, SHINGLE))
    for message in before:
        if message.role == "system":
            continue
        said = words_of(message.content)
        if said == words:
            return True
        shared = len(runs & set(_runs(said, SHINGLE)))
        if len(words) > 2 * SHINGLE and shared >= PARROT_SHARE * len(runs):
            return True
    return False


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + length]) for i in range(max(1, len(words) - length + 1))]


def loop_among(
    turns: Sequence[Message], refusals: int
) -> Literal["goodbye_loop", "refusal_loop", "repetition"] | None:
    """The circle in which whole rounds of a conversation have ended up, or None.

    Two rounds of nothing but goodbyes; `refusals` refusals in a row; or a speaker's last three
    turns the same (short ones like "continue" are no parroting, but thrice is enough).
    """
    if len(turns) >= 4 and all(phrases.is_farewell(t.content) for t in turns[-4:]):
        return "goodbye_loop"
    answers = [t.content for t in turns if t.role == "assistant"][-refusals:]
    if len(answers) == refusals and all(phrases.is_refusal(a) for a in answers):
        return "refusal_loop"
    for role in ("user", "assistant"):
        said = [words_of(t.content) for t in turns if t.role == role][-3:]
        if len(said) == 3 and said[0] == said[1] == said[2]:
            return "repetition"
    return None
