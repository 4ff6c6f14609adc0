"""A sentence about somebody becomes the same sentence by them: `She was born` -> `I was born`.

Rules for English stories in the past tense, where `I` and `she` take the same verbs but for a few.
They are simple on purpose: a story whose paragraphs speak of two women as `she` should name the
other one. A story that is in the first person already comes out as it went in.
"""

import re
from functools import lru_cache

from assistant.characters.profile import PRONOUNS, Profile

# After `her` these begin something else, so it was an object: `gave her the book`, `told her to`.
_AFTER_OBJECT = frozenset(
    re.findall(
        r"\w+",
        """a an the to that how why when where what who and but or for from in on at with by of
        about as if because so once out up down away back into over after before until than this
        these those no not only never again without asleep awake alone alive unable""",
    )
)
# Before `her` these want somebody first: `taught her calculus`, `offered her nine hundred crowns`.
_BEFORE_OBJECT = frozenset(
    ("taught", "offered", "caught", "let", "left", "searched", "raised", "handed", "paid")
)
_AFTER_DEATH = re.compile(r"\bI (?:\w+ )?(?:died|lies|was buried)\b|\bI lived to be\b")
_AND_DIED = re.compile(r",? and (?:died|lived to be)\b[^,.]*")
_VERBS = {"is": "am", "has": "have", "does": "do", "goes": "go", "'s": "'m"}
_PREPOSITIONS = "in|on|at|for|about|with|of|to|from|into|over|by"
_NO_DEEDS = "was|had|could|would|did|might|should|must|never|am|have|and|who|that|the|a|on"
_DEED = rf"(?!(?:{_NO_DEEDS})\b)[a-z]{{3,}}(?: (?:{_PREPOSITIONS})\b)?"
_WORD = re.compile(r"[\w\u2019']+|[^\w\s]|\s+")


def first_person(sentence: str, profile: Profile) -> str:
    """The sentence as the person would say it."""
    text = _names(profile.name).sub(_as_pronoun, sentence)
    pieces = _WORD.findall(text)
    said: list[str] = []
    for position, piece in enumerate(pieces):
        said.append(_said(piece, pieces[position + 1 :], profile.pronoun, said))
    return _tidied("".join(said))


def deeds(sentence: str) -> list[str]:
    """What the person says that they did: `folded`, `slept in`, without what it was done to."""
    found = re.findall(rf"\bI (?:then |often |always )?({_DEED})", sentence)
    if found:  # `I slept in the hut, burned its furniture, and delivered the letters`
        found += re.findall(rf"(?:,| and|,? and then) (\w+ed(?: (?:{_PREPOSITIONS})\b)?)", sentence)
    return list(dict.fromkeys(found))


def lived(sentence: str) -> str:
    """What the person can say of a first-person sentence while alive; empty when it is all death.

    `I was born in 1888 and died in 1961.` -> `I was born in 1888.`
    """
    text = sentence
    if re.match(r"I\b", text):
        text = re.sub(r",? and I lived to be\b[^,.]*", "", _AND_DIED.sub("", text))
    return "" if _AFTER_DEATH.search(text) else text


def _as_pronoun(match: "re.Match[str]") -> str:
    return "\x01" if match[0].endswith(("'s", "\u2019s")) else "\x00"


@lru_cache(maxsize=64)
def _names(name: str) -> "re.Pattern[str]":
    """The person's names, long ones first, with a possessive ending or without.

    A family name alone is taken for theirs only when it does not follow another's given name.
    """
    parts = name.split()
    names = [re.escape(n) for n in dict.fromkeys([name, parts[0]])]
    # "Ilie Dascal" is a brother, "the Dascal mules" may be anybody's: the given name is enough.
    rest = "|".join(map(re.escape, parts[1:]))
    follows = rf"(?!\s+(?!(?:{rest})\b)[A-Z]\w+)" if rest else ""
    return re.compile(rf"(?<![\w-])(?:{'|'.join(names)}){follows}(?:['\u2019]s)?(?![\w-])")


def _said(piece: str, later: list[str], pronoun: str, before: list[str]) -> str:
    if piece == "\x00":  # the person's name; after a preposition it is rare enough to let be
        return "I"
    if piece == "\x01":
        return "my"
    word = piece.lower()
    if word in _VERBS and (_last_word(before) == "I"):
        return _VERBS[word]
    if pronoun not in PRONOUNS:
        return piece
    new = _pronoun(word, later, pronoun, _last_word(before))
    if new is None:
        return piece
    return new if new == "I" or not piece[0].isupper() else new.capitalize()


def _pronoun(word: str, later: list[str], pronoun: str, before: str) -> str | None:
    """What a third-person word becomes in the first; None for any other word."""
    if word == pronoun:
        return "I"
    if word == f"{pronoun}self" or word == PRONOUNS[pronoun][3]:
        return "myself"
    if pronoun == "he":
        return {"him": "me", "his": "my"}.get(word)
    if word == "hers":
        return "mine"
    if word != "her":
        return None
    return "me" if _is_object(before, later) else "my"


def _is_object(before: str, later: list[str]) -> bool:
    following = next((p for p in later if not p.isspace()), ".").lower()
    if not following[0].isalnum() or following in _AFTER_OBJECT or before in _BEFORE_OBJECT:
        return True
    return before == "had" and following.endswith(("ed", "taught", "sent"))


def _last_word(before: list[str]) -> str:
    return next((p for p in reversed(before) if not p.isspace()), "")


def _tidied(text: str) -> str:
    text = re.sub(r"^I and ([A-Z][\w ]*?)(?= [a-z])", r"\1 and I", text.strip())
    return text[:1].upper() + text[1:]
