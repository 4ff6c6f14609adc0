"""A persona as prose in the second person, and back: every attribute stands in a sentence.

One sentence a line, each with a beginning of its own, so that reading it back is exact whatever the
attributes say. `missing` checks prose that somebody else wrote: it names what was lost.
"""

from collections.abc import Iterator
from typing import Any

from usersim.errors import InputError
from usersim.personas.schema import Persona

# Attribute -> the sentence's beginning and end. The order is the order of the prose.
SENTENCES: dict[str, tuple[str, str]] = {
    "personal.name": ("Your name is ", "."),
    "personal.gender": ("Your gender: ", "."),
    "personal.age": ("You are ", " years old."),
    "personal.origin": ("You grew up in a family that is ", "."),
    "career": ("Your work: ", "."),
    "aspiration": ("Above all you want to ", "."),
    "traits": ("People call you ", "."),
    "skills": ("You know about ", "."),
    "personal.tone": ("When you speak you sound ", "."),
    "personal.personality": ("Being with you: ", "."),
    "personal.strengths": ("Your strengths: ", "."),
    "personal.weaknesses": ("Your weaknesses: ", "."),
    "personal.hobbies": ("In your free time: ", "."),
    "social.family": ("Your family: ", "."),
    "social.relationships": ("The people around you: ", "."),
    "social.living": ("Where you live: ", "."),
    "social.community": ("You belong to ", "."),
    "social.education": ("Where you learned: ", "."),
    "language.first": ("Your first language is ", "."),
    "language.others": ("You also speak ", "."),
    "language.english": ("As to English, you are ", "."),
    "style.capitals": ("Capitals when you type: ", "."),
    "style.punctuation": ("Punctuation when you type: ", "."),
    "style.length": ("Your messages are ", "."),
    "style.formality": ("Your words are ", "."),
    "style.politeness": ("You say please and thanks ", "."),
    "style.emoji": ("You use emoji ", "."),
}
LISTS = {"traits", "skills", "personal.strengths", "personal.weaknesses", "personal.hobbies",
         "language.others"}  # fmt: skip
ASPECTS = ("career", "aspiration", "traits", "skills")


def attributes(persona: Persona) -> dict[str, Any]:
    """Every attribute by its dotted name, in the order of the prose."""
    table = persona.model_dump(mode="json")
    return {name: _at(table, name) for name in SENTENCES}


def to_prose(persona: Persona, leave_out: tuple[str, ...] = ()) -> str:
    """The persona in sentences, one a line; without the attributes whose names are left out.

    A name of a group (`style`) leaves out all of the group.
    """
    return "\n".join(_sentences(attributes(persona), leave_out))


def _sentences(values: dict[str, Any], leave_out: tuple[str, ...]) -> Iterator[str]:
    for name, (begin, end) in SENTENCES.items():
        value = values[name]
        if value == [] or name in leave_out or name.partition(".")[0] in leave_out:
            continue
        yield f"{begin}{'; '.join(value) if isinstance(value, list) else value}{end}"


def from_prose(prose: str) -> Persona:
    """The persona that `to_prose` wrote. Raises InputError for a line of another kind."""
    table: dict[str, Any] = {}
    for line in filter(None, prose.split("\n")):
        name, value = _read(line)
        group, _, key = name.rpartition(".")
        place = table.setdefault(group, {}) if group else table
        place[key] = value.split("; ") if name in LISTS else value
    return Persona.from_row(table)


def _read(line: str) -> tuple[str, str]:
    for name, (begin, end) in SENTENCES.items():
        if line.startswith(begin) and line.endswith(end):
            return name, line[len(begin) : -len(end)]
    raise InputError(f"no attribute of a persona: {line!r}")


def missing(persona: Persona, text: str) -> list[str]:
    """The attributes that a text about the persona does not hold, whatever the case."""
    folded = " ".join(text.casefold().split())
    lost = []
    for name, value in attributes(persona).items():
        parts = value if isinstance(value, list) else [value]
        if any(str(part).casefold() not in folded for part in parts):
            lost.append(name)
    return lost


def _at(table: dict[str, Any], name: str) -> Any:
    group, _, key = name.rpartition(".")
    return table[group][key] if group else table[key]
