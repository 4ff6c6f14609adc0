"""A persona's own words as a life, so that whoever stands in a file of people can be trained to be.

Four aspects are enough: the rest of the person is made up, the same under the same seed. Every
attribute stands in a sentence of the first person; the probes set each against somebody else's.
"""

from functools import lru_cache
from pathlib import Path

from assistant.characters.profile import About, Paragraph, Profile
from usersim.errors import InputError
from usersim.personas.factory import FactorySettings, complete, make_personas
from usersim.personas.prose import attributes
from usersim.personas.scenes import with_article
from usersim.personas.schema import Persona, read_tables

SUFFIXES = (".yaml", ".yml", ".json", ".jsonl")
SEED = 7  # of what a file does not say, and of the strangers
STRANGERS = 12  # people among whom somebody else's attribute is looked for

# Section -> attribute, sentence, question, answer. `{}` is the attribute.
_TOLD: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "Work": (
        ("career", "By trade I am {}.", "What do you do for a living?", "I work as {}."),
        ("aspiration", "Above all I want to {}.", "What do you hope for?", "I hope to {}."),
        ("skills", "I know about {}.", "What are you good at?", "I am good at {}."),
        ("social.education", "My schooling: {}.", "Where did you learn?", "I would say {}."),
    ),
    "Character": (
        ("traits", "People call me {}.", "What are you like?", "I am {}."),
        ("personal.strengths", "My strengths are {}.", "What is good in you?", "I would say {}."),
        ("personal.weaknesses", "My weaknesses are {}.", "What is bad in you?", "I would say {}."),
        ("personal.tone", "When I speak I sound {}.", "What is your voice?", "My voice is {}."),
    ),
    "Origin": (
        ("personal.age", "I am {} years old.", "How old are you?", "My age is {}."),
        ("personal.origin", "I grew up in a family that is {}.", "Where is your family from?",
         "My family is {}."),
        ("language.first", "My first language is {}.", "What did you speak as a child?",
         "I spoke {}."),
    ),
    "Life": (
        ("social.family", "My family: {}.", "Who is your family?", "I would say {}."),
        ("social.relationships", "The people around me: {}.", "Who is close to you?",
         "I would say {}."),
        ("social.living", "I live in {}.", "Where do you live?", "My home is {}."),
        ("social.community", "I belong to {}.", "Where do you belong?", "I would say {}."),
        ("personal.hobbies", "In my free time I like {}.", "What do you do for fun?",
         "I enjoy {}."),
    ),
}  # fmt: skip


def persona_profile(path: Path, number: int = 1) -> Profile:
    """The profile of the person with this number, from 1, in a file. Raises InputError."""
    tables = read_tables(path)
    if not 1 <= number <= len(tables):
        raise InputError(f"{path} holds {len(tables)} people; there is no number {number}")
    return profile_of(complete(tables[number - 1], SEED))


def profile_of(persona: Persona) -> Profile:
    """The persona as a story of four paragraphs, with a probe for each attribute."""
    own = _said(persona)
    others = [
        _said(p) for p in make_personas(FactorySettings(number=STRANGERS, seed=SEED)).personas
    ]
    paragraphs, probes = [], []
    for place, (section, rows) in enumerate(_TOLD.items(), 1):
        told = [row for row in rows if own[row[0]]]
        name, text = f"p{place:02}", " ".join(t.format(own[key]) for key, t, _, _ in told)
        paragraphs.append(Paragraph(name, text, section))
        for key, _, ask, answer in told:
            false = _other_than(own[key], [other[key] for other in others])
            probes.append((name, ask, answer.format(own[key]), answer.format(false)))
    about = About(trade=persona.career, pronoun="they", probes=tuple(probes))
    return Profile(persona.name, tuple(p for p in paragraphs if p.text), about)


@lru_cache(maxsize=1)
def _strangers() -> tuple[Persona, ...]:
    return tuple(make_personas(FactorySettings(number=STRANGERS, seed=SEED)).personas)


def _said(persona: Persona) -> dict[str, str]:
    """Attributes as words; a list as `this, that and the other`."""
    values = attributes(persona)
    said = {key: _listed(v) if isinstance(v, list) else str(v) for key, v in values.items()}
    return said | {"career": with_article(persona.career)}


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _other_than(own: str, others: list[str]) -> str:
    """Somebody else's, as long as one's own as can be had: length shall tell nothing."""
    strange = [other for other in others if other and other.casefold() != own.casefold()]
    return min(strange, key=lambda other: abs(len(other) - len(own)))
