"""Guards: is this a turn that its speaker could have said? Cheap, and right when they refuse.

A refused turn is drawn again as a whole, never edited. The rules are few and precise on purpose:
what they let through, curation judges with the whole corpus in sight.
"""

import re
from collections.abc import Sequence
from typing import Literal

from usersim.conversation import Message, Role

GuardReason = Literal[
    "empty",  # nothing was said (or the user left before they may)
    "cut_off",  # a user turn that ran into the token limit: people finish their sentences
    "template_tokens",  # the chat template's own tokens, spelled out
    "role_confusion",  # a user who talks like an assistant
    "looping",  # the same few words over and over
    "parroting",  # what the other side, or the speaker, said before
    "near_duplicate_opener",  # another conversation began like this
]

# Spelled-out template tokens of the common chat formats; people do not type these.
_TEMPLATE = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text|begin_of_text|start_header_id"
    r"|end_header_id|user|assistant|system)\|>"
    r"|</?(?:start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>"
    r"|^\s*#{2,3} ?(?:Human|User|Assistant|Instruction|Response):"
    r"|^(?:Human|User|Assistant): ",
    re.MULTILINE,
)

# How assistants begin or speak of themselves. Precise rather than complete: a person who writes
# "Sure" or "I'm sorry" alone is left in peace.
_ASSISTANT_VOICE = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language|ai language) (?:language )?"
    r"(?:model|assistant)\b"
    r"|\bas an ai\b,"
    r"|\bI(?:'m| am) (?:an? (?:ai|large) (?:language )?(?:model|assistant))\b"
    r"|^\s*(?:sure|certainly|of course|absolutely)[!,.]? "
    r"(?:here(?:'s| is| are)|I(?:'d| would| can|'ll))\b"
    r"|^\s*I(?:'m| am) sorry, but (?:I|as)\b"
    r"|^\s*I apologi[sz]e for (?:the|any) (?:confusion|inconvenience|error|mistake)"
    r"|\bI(?:'d| would) be (?:happy|glad) to (?:help|assist)\b"
    r"|\bhow (?:can|may) I (?:help|assist) you\b"
    r"|^\s*(?:thank you|thanks) for (?:sharing|providing) (?:your|the|this)\b"
    r"|\b(?:I hope this helps|feel free to ask|let me know if you (?:have|need) any)\b",
    re.IGNORECASE,
)

_REFUSAL = re.compile(
    r"\b(?:I(?:'m| am) (?:sorry|afraid),? (?:but )?"
    r"(?:as an ai|I (?:can(?:not|'t)|am (?:not able|unable)))"
    r"|I (?:can(?:not|'t)|am unable to|am not able to) (?:help|assist|fulfil|comply|provide|create)"
    r"|as an ai\b.{0,60}\bI (?:do not|don't|can(?:not|'t)))",
    re.IGNORECASE | re.DOTALL,
)

_GOODBYE = re.compile(
    r"\b(?:good ?bye|bye(?:[- ]bye)?|see you|farewell|take care"
    r"|have a (?:great|nice|good|wonderful) (?:day|one|evening|night|weekend)"
    r"|you(?:'re| are) welcome|thanks?(?: you)?(?: so much| again)?)\b",
    re.IGNORECASE,
)

_WORD = re.compile(r"\w+")

LOOP_WORDS = 30  # shorter turns may repeat themselves: lists, verses, emphasis
LOOP_DISTINCT = 0.35  # share of distinct three-word runs below which a turn goes round in circles
PARROT_WORDS = 4  # "yes", "go on", "thank you very much" may be said again
PARROT_SHARE = 0.8  # of a turn's five-word runs, said before in one other turn
SHINGLE = 5
GOODBYE_WORDS = 25  # a longer turn that thanks is still about something


def words_of(text: str) -> list[str]:
    """Words without case and punctuation."""
    return _WORD.findall(text.casefold())


def refuse_turn(
    text: str, role: Role, finish: str, before: Sequence[Message]
) -> GuardReason | None:
    """Why this turn of `role` after `before` is refused, or None."""
    if not text.strip():
        return "empty"
    if _TEMPLATE.search(text):
        return "template_tokens"
    if role == "user" and (reason := _unlike_a_person(text, finish)):
        return reason
    words = words_of(text)
    if is_looping(words):
        return "looping"
    return "parroting" if is_parroting(words, before) else None


def _unlike_a_person(text: str, finish: str) -> GuardReason | None:
    if finish == "length":
        return "cut_off"
    return "role_confusion" if _ASSISTANT_VOICE.search(text) else None


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


def is_refusal(text: str) -> bool:
    """Whether an assistant's turn refuses (in its first 300 characters)."""
    return bool(_REFUSAL.search(text[:300]))


def is_goodbye(text: str) -> bool:
    """Whether a short turn says goodbye, thanks or welcome."""
    return len(words_of(text)) <= GOODBYE_WORDS and bool(_GOODBYE.search(text))


def loop_among(
    turns: Sequence[Message], refusals: int
) -> Literal["goodbye_loop", "refusal_loop", "repetition"] | None:
    """The circle in which whole rounds of a conversation have ended up, or None.

    Two rounds of nothing but goodbyes; `refusals` refusals in a row; or a speaker's last three
    turns the same (short ones like "continue" are no parroting, but thrice is enough).
    """
    if len(turns) >= 4 and all(is_goodbye(t.content) for t in turns[-4:]):
        return "goodbye_loop"
    answers = [t.content for t in turns if t.role == "assistant"][-refusals:]
    if len(answers) == refusals and all(is_refusal(a) for a in answers):
        return "refusal_loop"
    for role in ("user", "assistant"):
        said = [words_of(t.content) for t in turns if t.role == role][-3:]
        if len(said) == 3 and said[0] == said[1] == said[2]:
            return "repetition"
    return None
