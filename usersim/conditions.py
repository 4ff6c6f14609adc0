"""What a UserGPT may be told about the person it plays: an intent, a profile, both, or nothing.

A **profile** is how somebody writes, read off their own turns: no word of what they wrote about is
in it. An **intent** is what they want, in a line; where no strong model writes one, it is the words
that tell their turns from other people's. Training leaves conditions out at random, so that one
checkpoint plays free, with either, or with both. They reach the model as its system message, by
any API.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Literal, Self

from pydantic import Field

from usersim.chat_format import FREE_SYSTEM
from usersim.conversation import Conversation
from usersim.settings import Settings

Length = Literal["a few words", "a short line", "a line or two", "a paragraph", "a long text"]
LENGTHS: tuple[tuple[int, Length], ...] = (
    (4, "a few words"),
    (12, "a short line"),
    (30, "a line or two"),
    (80, "a paragraph"),
)
"""Most words of each class but the last; about the quintiles of ShareGPT people's turns."""

LONGEST_WORD = 30
"""Letters. What is longer is no word but a clause of a script without spaces, a key, a sequence."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # noqa: RUF001  people type both apostrophes
_POLITE = re.compile(r"\b(?:please|pls|plz|thanks?|thank you|thx)\b", re.IGNORECASE)


class ConditionSettings(Settings):
    """How often a person in training is described, and by what."""

    profile_share: float = Field(0.0, ge=0.0, le=1.0, description="rows that state the profile")
    intent_share: float = Field(0.0, ge=0.0, le=1.0, description="rows that state the intent")
    intent_words: int = Field(6, ge=1, description="words of an intent read off the turns")

    @property
    def any(self) -> bool:
        """Whether anything is ever told."""
        return self.profile_share > 0 or self.intent_share > 0


@dataclass(frozen=True, slots=True)
class Profile:
    """How somebody writes. Every attribute is one of few phrases; "" where it is not known."""

    opens_with: str = ""
    """Length of the first turn."""
    goes_on_with: str = ""
    """Typical length of later turns."""
    case: str = ""
    ends: str = ""
    asks: str = ""
    tone: str = ""

    def line(self) -> str:
        """One line for a system message; "" when nothing is known. `from_line` undoes it."""
        known = [f"{_LABELS[f.name]} {value}" for f in fields(self) if (value := _of(self, f.name))]
        return "; ".join(known)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """The profile that a line states; what it does not say in these words stays unknown."""
        stated: dict[str, str] = {}
        for part in line.split("; "):
            for name, label in _LABELS.items():
                if part.startswith(f"{label} "):
                    stated[name] = part.removeprefix(f"{label} ")
        return cls(**stated)

    def agreement(self, other: "Profile") -> dict[str, bool]:
        """By attribute known in both, whether they agree: did who was asked to be short, be so?"""
        pairs = {f.name: (_of(self, f.name), _of(other, f.name)) for f in fields(self)}
        return {name: left == right for name, (left, right) in pairs.items() if left and right}


_LABELS = {
    "opens_with": "opens with",
    "goes_on_with": "goes on with",
    "case": "starts in",
    "ends": "sentence ends",
    "asks": "questions",
    "tone": "tone",
}


def _of(profile: Profile, name: str) -> str:
    value: str = getattr(profile, name)
    return value


def profile_of(user_turns: Sequence[str]) -> Profile:
    """The profile of who typed these turns, in order. Raises ValueError without any."""
    if not user_turns:
        raise ValueError("a profile needs at least one turn")
    later = user_turns[1:]
    lower = _share(_starts_in_lower_case(t) for t in user_turns)
    stopped = _share(t.rstrip()[-1:] in ".?!…" for t in user_turns)
    asking = _share("?" in t for t in user_turns)
    return Profile(
        opens_with=length_class(len(user_turns[0].split())),
        goes_on_with=length_class(median(len(t.split()) for t in later)) if later else "",
        case="lower case" if lower > 0.5 else "upper case" if lower == 0 else "either case",
        ends="are marked" if stopped > 0.5 else "are left open",
        asks="often" if asking > 0.5 else "sometimes" if asking else "never",
        tone="polite" if any(map(_POLITE.search, user_turns)) else "plain",
    )


def length_class(words: float) -> Length:
    """The phrase for a turn of so many words."""
    return next((name for most, name in LENGTHS if words <= most), "a long text")


def _starts_in_lower_case(text: str) -> bool:
    first = next((c for c in text if c.isalpha()), "")
    return first.islower()


def _share(truths: Iterable[bool]) -> float:
    listed = list(truths)
    return sum(listed) / len(listed)


class IntentWords:
    """Reads an intent off a person's turns: the words that tell them from other people's.

    Words are ranked by tf-idf, log-damped (Manning, Raghavan, Schuetze 2008, section 6.2), against
    the turns of the people given when made; words that one person only used are rare names and
    slips as often as topics, so they come last.
    """

    def __init__(self, people: Iterable[Sequence[str]]) -> None:
        self._documents = 0
        self._frequency = Counter[str]()
        for turns in people:
            self._documents += 1
            self._frequency.update(set(_words(turns)))

    def of(self, user_turns: Sequence[str], number: int) -> str:
        """Up to `number` words in the order in which they were first typed, joined by commas."""
        counts = Counter(_words(user_turns))
        ranked = sorted(counts, key=lambda w: self._rank(w, counts[w]))
        chosen = set(ranked[:number])
        return ", ".join(word for word in dict.fromkeys(_words(user_turns)) if word in chosen)

    def _rank(self, word: str, count: int) -> tuple[bool, float, str]:
        known = self._frequency.get(word, 0)
        rarity = math.log((1 + self._documents) / (1 + known))
        return known < 2, -(1 + math.log(count)) * rarity, word


def _words(turns: Iterable[str]) -> list[str]:
    """Words of 3 to `LONGEST_WORD` letters, in lower case; code and numbers are no topics."""
    found = (w.lower() for t in turns for w in _WORD.findall(t))
    return [w for w in found if 2 < len(w) <= LONGEST_WORD and not any(map(str.isdigit, w))]


def user_system(intent: str = "", profile: str = "") -> str:
    """What UserGPT is told: the system message of a simulated person. Plain without conditions."""
    lines = [FREE_SYSTEM]
    if intent:
        lines.append(f"You want: {one_line(intent)}")
    if profile:
        lines.append(f"How you write: {one_line(profile)}")
    return "\n".join(lines)


def one_line(text: str) -> str:
    """The text with every run of white space made one space, so that it stays one condition."""
    return " ".join(text.split())


class Teller:
    """What each person in training or of a held-out split is told about themselves.

    `written` holds intents by conversation id, where a strong model or a person wrote them; for all
    others they are read off the turns, against those of `people`.
    """

    def __init__(
        self,
        settings: ConditionSettings,
        people: Sequence[Conversation],
        seed: int,
        written: Mapping[str, str] | None = None,
    ) -> None:
        self._settings, self._seed, self._written = settings, seed, written or {}
        needed = settings.intent_share > 0
        self._words = IntentWords(c.user_turns for c in people) if needed else None

    def at_random(self, person: Conversation) -> str:
        """In training: each condition is dropped or kept, the same way for the same seed."""
        draw = random.Random(f"{self._seed} {person.id}")
        intent, profile = draw.random(), draw.random()
        return self.told(
            person, intent < self._settings.intent_share, profile < self._settings.profile_share
        )

    def told(self, person: Conversation, intent: bool, profile: bool) -> str:
        """The system message with these of the person's conditions."""
        return user_system(
            self._intent(person) if intent else "",
            profile_of(person.user_turns).line() if profile else "",
        )

    def _intent(self, person: Conversation) -> str:
        written = self._written.get(person.id, "")
        if written or self._words is None:
            return written
        return self._words.of(person.user_turns, self._settings.intent_words)
