"""Rules that judge one conversation: each a small pure function, each with its own reason.

A rule returns what it found (a short text for the rejected row) or None. `judge` asks *every* rule
(but those that a first look has shown to find nothing) and keeps every answer; what is dropped is
decided afterwards, from the verdicts, so that a recipe can record a rule without applying it.
Rules made for web pages (Gopher, C4, FineWeb) pass only 6-45 % of what real people type to a
chatbot; these pass over 99 % (see docs/curation.md).
"""

import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from pipelines.evidence import EVIDENCE_RULES, Evidence
from pipelines.repetition import duplicate_share, looping_tail
from usersim import encoding, personal_data, phrases
from usersim.conversation import Conversation
from usersim.personal_data import Found
from usersim.presidio_finder import PresidioSettings, presidio_finder
from usersim.settings import Settings
from usersim.shingling import words


class FilterSettings(Settings):
    """Thresholds of the rules. Sources: rates among 9,360 real conversations of ShareGPT."""

    languages: tuple[str, ...] = Field(
        ("en",), description="ISO 639 codes a conversation may be in; empty allows every language"
    )
    min_language_probability: float = Field(
        0.5, ge=0, le=1, description="below this the language counts as not known, and is kept"
    )
    max_refusals: int = Field(
        0, ge=0, description="assistant turns that may refuse before the conversation is dropped"
    )
    max_duplicate_share: float = Field(
        0.5, gt=0, le=1, description="most of a turn's 6-word runs that may have occurred before"
    )
    min_words_for_repetition: int = Field(
        50, ge=10, description="turns shorter than this are not tested for repeated runs"
    )
    max_short_duplicate_share: float = Field(
        0.4,
        gt=0,
        le=1,
        description="the same for shorter turns from 20 words on, in 3-word runs, digits left out; "
        "0.15 % of real turns of that length are above",
    )
    max_loop_words: int = Field(
        12, ge=4, description="words that a unit of the same words may fill at the end of a turn"
    )
    max_repeated_user_turns: int = Field(
        2, ge=0, description="times a user may type an earlier turn of theirs again (people retry)"
    )
    max_repeated_assistant_turns: int = Field(
        0, ge=0, description="times the assistant may give an earlier answer of four words again"
    )
    max_repeated_share: float = Field(
        0.1, ge=0, le=1, description="share of one side's turns that may be repeats in any case"
    )
    max_goodbyes: int = Field(3, ge=1, description="turns in a row that only say thanks or goodbye")
    min_rounds: int = Field(1, ge=0, description="answered user turns that a conversation needs")
    min_user_words: int = Field(0, ge=0, description="words that a user must type in all")
    max_turn_characters: int = Field(0, ge=0, description="of either side; 0: any, people paste")
    max_truncated_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of answers that the token limit may break off; the default only tags "
        "them, because a short limit is the recipe's own choice",
    )
    encoding: Literal["mend", "drop", "keep"] = Field(
        "mend", description="mojibake: mended by ftfy (what cannot be drops), dropped, or only told"
    )
    personal_data: Literal["mask", "drop", "keep"] = Field(
        "mask", description="addresses, numbers, secrets: masked as [EMAIL], dropped, or only told"
    )
    personal_data_finder: Literal["light", "presidio"] = Field(
        "light", description="by form alone, or by presidio too (extra `pii`): names, for one"
    )
    presidio: PresidioSettings = Field(
        default_factory=PresidioSettings, description="what presidio looks for"
    )
    min_quality: float | None = Field(
        None, ge=0, le=1, description="least score of the quality model (`curate.models.quality`)"
    )
    max_toxicity: float | None = Field(
        0.9, ge=0, le=1, description="highest score of the toxicity model, where one is named"
    )
    min_judge_score: float | None = Field(
        None, description="least score by `curate.judge`: 1 to 10, a reward model has its own scale"
    )
    drop_unscored: bool = Field(
        False, description="drop what the judge was asked about and gave no score"
    )
    blocked_words: tuple[str, ...] = Field(
        (), description="further words (whole, any case) that a conversation may not contain"
    )
    record_only: tuple[str, ...] = Field(
        (), description="reasons that are recorded but do not drop a conversation"
    )

    @field_validator("record_only")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in REASONS]:
            raise ValueError(f"no such reason: {', '.join(unknown)}; one of {', '.join(REASONS)}")
        return names

    def personal_places(self, text: str) -> list[Found]:
        """Where a text holds personal data. Raises WorldError without the extra that is asked."""
        light = self.personal_data_finder == "light"
        return personal_data.find(text) if light else presidio_finder(self.presidio).find(text)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule's answer: its reason, and what it found, or None where the conversation passes."""

    reason: str
    found: str | None

    @property
    def passed(self) -> bool:
        """Whether the rule has nothing against the conversation."""
        return self.found is None


SHORT_WORDS = 20
"""Turns of fewer words may repeat themselves: choruses, counting, emphasis."""
Rule = Callable[[Conversation, FilterSettings], str | None]


def blank_turn(conversation: Conversation, _: FilterSettings) -> str | None:
    """A turn without anything to read: invisible characters, or an answer of punctuation alone.

    People do type `?` or an emoji, so a user's turn needs one visible character, an answer a word
    or a symbol.
    """
    for position, message in enumerate(conversation.turns):
        visible = phrases.VISIBLE if message.role == "user" else phrases.READABLE
        if not visible.search(message.content):
            return f"turn {position}: {message.content[:20]!r}"
    return None


def no_answer(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Fewer answered user turns than a conversation needs."""
    rounds = conversation.num_rounds
    return f"{rounds} rounds" if rounds < settings.min_rounds else None


def engine_error(conversation: Conversation, _: FilterSettings) -> str | None:
    """The simulation broke off with an error, so the last turns are not to be trusted."""
    return "stop reason error" if conversation.stop_reason == "error" else None


def template_leak(conversation: Conversation, _: FilterSettings) -> str | None:
    """Tokens of a chat template inside a turn."""
    return _first(phrases.TEMPLATE_TOKEN, (m.content for m in conversation.turns))


def reasoning_leak(conversation: Conversation, _: FilterSettings) -> str | None:
    """Tags of a model's hidden reasoning inside a turn."""
    return _first(phrases.REASONING_TAG, (m.content for m in conversation.turns))


def transcript(conversation: Conversation, _: FilterSettings) -> str | None:
    """A turn that goes on as a transcript: speaker labels of both sides, or of the wrong one.

    A label at the very start of a turn counts too. One label amid a user's turn does not: people
    paste few-shot prompts and YAML.
    """
    for message in conversation.turns:
        labels = [m[1].casefold() for m in phrases.SPEAKER_LABEL.finditer(message.content)]
        sides = {"user" if label in phrases.USER_LABELS else "assistant" for label in labels}
        starts = phrases.SPEAKER_LABEL.match(message.content.lstrip())
        wrong = message.role == "assistant" and "user" in sides
        if starts or wrong or (len(sides) == 2 and message.role == "assistant"):
            return f"{message.role} turn: {message.content.lstrip()[:40]!r}"
    return None


def user_answers(conversation: Conversation, _: FilterSettings) -> str | None:
    """A user turn in the voice of an assistant: offers of help, self-naming, refusals, answers."""
    for position, text in enumerate(conversation.user_turns):
        if wording := phrases.assistant_voice(text, at_start=position == 0):
            return wording
        if position == 0:  # openers carry pasted lists
            continue
        if phrases.LISTED_ANSWER.match(text) and not phrases.REQUEST.search(text):
            return text[:60]
    return None


def assistant_asks(conversation: Conversation, _: FilterSettings) -> str | None:
    """An answer in the voice of a user: a request for work, or thanks for an answer."""
    return _first(phrases.ASSISTANT_AS_USER, conversation.assistant_turns)


def echo(conversation: Conversation, _: FilterSettings) -> str | None:
    """A turn that only says what the other side has just said (five words or more)."""
    said = [words(message.content) for message in conversation.turns]
    for position, (before, here) in enumerate(pairwise(said), start=1):
        if len(here) >= 5 and here == before:
            return f"turn {position}: {' '.join(here[:10])}"
    return None


def self_naming(conversation: Conversation, _: FilterSettings) -> str | None:
    """The assistant speaks of itself as a language model."""
    return _first(phrases.SELF_NAMING, conversation.assistant_turns)


def refusal(conversation: Conversation, settings: FilterSettings) -> str | None:
    """More refusing answers than allowed; only an answer's beginning counts."""
    found = [text for text in conversation.assistant_turns if phrases.is_refusal(text)]
    return found[0][:80] if len(found) > settings.max_refusals else None


def repetitive_turn(conversation: Conversation, settings: FilterSettings) -> str | None:
    """A turn that repeats itself: most of its 6-word runs occurred before, or its end loops."""
    for position, message in enumerate(conversation.turns):
        said = words(message.content)
        if unit := looping_tail(said, settings.max_loop_words):
            return f"{message.role} turn {position} ends in a loop: {unit[:60]}"
        if found := _repeats(said, settings):
            return f"{message.role} turn {position}: {found}"
    return None


def _repeats(said: Sequence[str], settings: FilterSettings) -> str | None:
    if len(said) >= settings.min_words_for_repetition:
        share = duplicate_share(said, 6)
        over = share > settings.max_duplicate_share
        return f"{share:.0%} of 6-word runs repeated" if over else None
    told = [word for word in said if not word.isdigit()]
    share = duplicate_share(told, 3) if len(told) >= SHORT_WORDS else 0.0
    over = share > settings.max_short_duplicate_share
    return f"{share:.0%} of 3-word runs repeated" if over else None


def repeated_turn(conversation: Conversation, settings: FilterSettings) -> str | None:
    """The same speaker says an earlier turn of theirs again, more often than allowed.

    Turns under four words do not count ("continue", "Sure!").
    """
    limits = (
        ("user", conversation.user_turns, settings.max_repeated_user_turns),
        ("assistant", conversation.assistant_turns, settings.max_repeated_assistant_turns),
    )
    for role, turns, limit in limits:
        said = [tuple(found) for text in turns if len(found := words(text)) >= 4]
        repeats = len(said) - len(set(said))
        if repeats > max(limit, settings.max_repeated_share * len(turns)):
            return f"{role} repeats {repeats} of {len(turns)} turns"
    return None


def goodbye_loop(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Both sides thank each other or say goodbye again and again."""
    longest = run = 0
    for message in conversation.turns:
        run = run + 1 if phrases.is_farewell(message.content) else 0
        longest = max(longest, run)
    return f"{longest} farewells in a row" if longest > settings.max_goodbyes else None


def slur(conversation: Conversation, settings: FilterSettings) -> str | None:
    """A slur, or a word that the recipe blocks. The word itself is not written down again."""
    blocked = {word.casefold() for word in settings.blocked_words}
    for position, message in enumerate(conversation.turns):
        said = set(words(message.content))
        if not blocked.isdisjoint(said) or any(map(phrases.is_slur, said)):
            return f"{message.role} turn {position}"
    return None


def length(conversation: Conversation, settings: FilterSettings) -> str | None:
    """A user who types less, or a turn that is longer, than the recipe wants."""
    longest = max(len(message.content) for message in conversation.turns)
    if settings.max_turn_characters and longest > settings.max_turn_characters:
        return f"a turn of {longest} characters"
    wanted = settings.min_user_words
    typed = sum(len(text.split()) for text in conversation.user_turns) if wanted else 0
    return f"{typed} words of the user" if typed < wanted else None


def truncated(conversation: Conversation, settings: FilterSettings) -> str | None:
    """More answers than allowed that the engine's token limit broke off (`cut_turns`)."""
    if not conversation.cut_turns:
        return None
    answers = len(conversation.assistant_turns)
    cut = sum(position % 2 for position in conversation.cut_turns)
    if answers and cut / answers > settings.max_truncated_share:
        return f"{cut} of {answers} answers"
    return None


def encoding_damage(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Mojibake or lost characters; where the policy is to mend, what could not be mended."""
    if settings.encoding == "keep":
        return None
    for position, message in enumerate(conversation.turns):
        if damage := encoding.damage(message.content):
            return f"{message.role} turn {position}: {damage}"
    return None


def personal(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Personal data, where the policy is to drop it. What it is is not written down again."""
    if settings.personal_data != "drop":
        return None
    for position, message in enumerate(conversation.turns):
        if found := settings.personal_places(message.content):
            return f"{message.role} turn {position}: {found[0].kind}"
    return None


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        engine_error, no_answer, blank_turn, template_leak, reasoning_leak, transcript,
        user_answers, assistant_asks, echo, self_naming, refusal, repetitive_turn, repeated_turn,
        goodbye_loop, slur, length, truncated, encoding_damage, personal,
    )
}  # fmt: skip
"""Every rule by its reason, in the order in which the first failing one names the rejection."""

REASONS: tuple[str, ...] = (*RULES, *EVIDENCE_RULES)
PLACEHOLDER = "placeholder"
"""A tag that is asked for like a rule."""


_PASSED = {reason: Verdict(reason, None) for reason in REASONS}


def judge(
    conversation: Conversation,
    settings: FilterSettings,
    evidence: Evidence | None = None,
    asked: Iterable[str] = REASONS,
) -> list[Verdict]:
    """Every rule's verdict, in the order of REASONS; what there is no evidence of passes.

    So do the rules on the conversation that are not `asked`.
    """
    verdicts, known = dict(_PASSED), evidence or Evidence()
    for reason in asked:
        if reason in RULES and (found := RULES[reason](conversation, settings)) is not None:
            verdicts[reason] = Verdict(reason, found)
    for reason, rule in EVIDENCE_RULES.items():
        if (found := rule(known, settings)) is not None:
            verdicts[reason] = Verdict(reason, found)
    return list(verdicts.values())


def deciding(verdicts: Iterable[Verdict], settings: FilterSettings) -> Verdict | None:
    """The first failing verdict that is not only recorded, or None: the conversation is kept."""
    failed = (v for v in verdicts if not v.passed and v.reason not in settings.record_only)
    return next(failed, None)


def tags_of(
    conversation: Conversation,
    settings: FilterSettings | None = None,
    asked: Container[str] = (*REASONS, PLACEHOLDER),
) -> list[str]:
    """What is worth knowing without being a reason to drop.

    `ends_on_user`; `truncated`: the token limit broke an answer off; `maybe_truncated`: the last
    answer does not end like a sentence, a list, or code, and the engine did not say why;
    `placeholder`: a user's turn holds what a source corpus put for personal data; `personal`: there
    is personal data, which the recipe's policy keeps. Neither of the last two when not `asked`.
    """
    last, tags = conversation.turns[-1], []
    texts = (message.content for message in conversation.turns)
    if conversation.cut_turns:
        tags.append("truncated")
    if last.role == "user":
        tags.append("ends_on_user")
    elif not conversation.cut_turns and not phrases.ends_whole(last.content):
        tags.append("maybe_truncated")
    if PLACEHOLDER in asked and any(map(personal_data.has_placeholder, conversation.user_turns)):
        tags.append(PLACEHOLDER)
    keeps = settings if settings is not None and settings.personal_data == "keep" else None
    if keeps and "personal" in asked and any(map(keeps.personal_places, texts)):
        tags.append("personal")
    return tags


def _first(pattern: re.Pattern[str], texts: Iterable[str]) -> str | None:
    for text in texts:
        if match := pattern.search(text):
            return match[0].strip()[:80]
    return None
