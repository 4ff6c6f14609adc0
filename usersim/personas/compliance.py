"""Was the condition followed? Every label, style and length that was asked for, measured.

A share alone says little: words of joy come in sad scenes too. Beside each share of scripts that
show their own label stands the share of the others that show it, and beside each agreement with
one's own writing style the agreement with somebody else's: a condition was followed by as much as
the first is above the second.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from usersim.conditions import profile_of
from usersim.perplexity import interval
from usersim.personas import tables
from usersim.personas.roleplay import profile_of_style
from usersim.personas.schema import Persona
from usersim.personas.script import Script

_OUT_OF_CHARACTER = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|language model)|(?:an? |your )ai (?:language model|"
    r"assistant)|language model|i(?:'m| am) (?:just )?a (?:computer )?program)\b",
    re.IGNORECASE,
)


def compliance(scripts: Sequence[Script], people: Mapping[str, Persona]) -> dict[str, Any]:
    """Figures of a whole corpus of scripts; `people` by id. Empty tables where nothing was asked.

    `emotions` and `topics`: by label `n`, `shown`, `elsewhere`, and over all scripts `gain`, the
    mean of their difference. `style`: by attribute `n`, `own`, `other`, `gain`. A gain is None, or
    has its 95 % interval over scripts. `in_character`: share of
    the characters' utterances that do not speak as a machine. `lengths`: utterances by script.
    """
    by_name = {person.name: person for person in people.values()}
    characters = [(s.scene.emotion, _said(s, s.main)) for s in scripts]
    whole = [(s.scene.topic, " ".join(u.content for u in s.utterances)) for s in scripts]
    lines = [u.content for s in scripts for u in s.utterances if u.speaker == s.main]
    broken = sum(bool(_OUT_OF_CHARACTER.search(line)) for line in lines)
    return {
        "scripts": len(scripts),
        "in_character": round(1 - broken / len(lines), 4) if lines else None,
        "emotions": followed(characters, tables.cues()["emotions"]),
        "topics": followed(whole, tables.cues()["topics"]),
        "style": style_followed([s for s in scripts if s.source == "roleplay"], by_name),
        "lengths": dict(sorted(Counter(len(s.utterances) for s in scripts).items())),
    }


def followed(
    labelled: Sequence[tuple[str, str]], cues: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Of texts that were to show a label, how many do, and how many of all others."""
    labels = sorted({label for label, _ in labelled if label in cues})
    rows = {label: _shares(label, labelled, tuple(cues[label])) for label in labels}
    floors = {name: row["elsewhere"] for name, row in rows.items() if row["elsewhere"] is not None}
    gains = [
        shows(text, tuple(cues[label])) - floors[label]
        for label, text in labelled
        if label in floors
    ]
    return {"gain": _gain(gains), "labels": rows}


def _gain(gains: Sequence[float]) -> dict[str, float] | None:
    return interval(gains).to_dict() if gains else None


def _shares(
    label: str, labelled: Iterable[tuple[str, str]], cues: tuple[str, ...]
) -> dict[str, Any]:
    own, others = Counter[bool](), Counter[bool]()
    for asked, text in labelled:
        (own if asked == label else others)[shows(text, cues)] += 1
    return {"n": own.total(), "shown": _share(own), "elsewhere": _share(others)}


def _share(counted: Counter[bool]) -> float | None:
    return round(counted[True] / counted.total(), 4) if counted.total() else None


def shows(text: str, cues: tuple[str, ...]) -> bool:
    """Whether a text holds a word that begins like one of the cues."""
    return bool(_pattern(cues).search(text))


@lru_cache(maxsize=256)
def _pattern(cues: tuple[str, ...]) -> "re.Pattern[str]":
    return re.compile(r"\b(?:" + "|".join(map(re.escape, cues)) + ")", re.IGNORECASE)


def style_followed(
    scripts: Sequence[Script], by_name: Mapping[str, Persona]
) -> dict[str, dict[str, Any]]:
    """Agreement of what personas typed with their own style, and with the next persona's style.

    The second is the floor: how often anybody's typing happens to agree with anybody's style.
    """
    typed = [(by_name[s.speakers[1]], _lines(s)) for s in scripts if s.speakers[1] in by_name]
    typed = [(person, lines) for person, lines in typed if lines]
    own: dict[str, list[bool]] = defaultdict(list)
    other: dict[str, list[bool]] = defaultdict(list)
    for place, (person, lines) in enumerate(typed):
        found, stranger = profile_of(lines), typed[(place + 1) % len(typed)][0]
        mine, theirs = (profile_of_style(p.style).agreement(found) for p in (person, stranger))
        for name in (n for n in mine if n in theirs):
            own[name].append(mine[name])
            other[name].append(theirs[name])
    return {
        name: {
            "n": len(own[name]),
            "own": round(sum(own[name]) / len(own[name]), 4),
            "other": round(sum(other[name]) / len(other[name]), 4),
            "gain": _gain([a - b for a, b in zip(own[name], other[name], strict=True)]),
        }
        for name in own
    }


def _lines(script: Script) -> list[str]:
    return [u.content for u in script.utterances if u.speaker == script.speakers[1]]


def _said(script: Script, name: str) -> str:
    return " ".join(u.content for u in script.utterances if u.speaker == name)
