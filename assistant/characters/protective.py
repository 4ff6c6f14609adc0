"""Protective experiences: somebody provokes the character out of their world, and fails.

Four boundaries, each a label on what guards it. Every boundary has two sets of words that share no
sentence: one to train on, one held out to ask with, so that a probe measures the boundary and not
the memory of a line. Both stand in boundaries.yaml.
"""

import random
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from assistant.characters.experiences import Experience, Utterance, experience_id
from assistant.characters.profile import Profile
from usersim.personas.scenes import with_article

Boundary = Literal["anachronism", "false_relation", "identity_attack", "machine"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
STATUS = "{name} is talking with somebody who has come to visit."
"""The same plain occasion for every protective experience and every interview."""
QUESTIONS_EACH = 8  # held-out provocations of one boundary
NEW_DRAWS = 20  # of one experience before its words may be said again
_WORDS = Path(__file__).with_name("boundaries.yaml")


@dataclass(frozen=True, slots=True)
class BoundaryQuestion:
    """A held-out provocation with an answer that holds the boundary and one that crosses it."""

    boundary: Boundary
    ask: str
    held: str
    crossed: str


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    """What boundaries.yaml holds."""
    table: dict[str, Any] = yaml.safe_load(_WORDS.read_text(encoding="utf-8"))
    return table


def protective_experiences(profile: Profile, count: int, seed: int = 0) -> list[Experience]:
    """`count` protective experiences, the boundaries in turn, none twice while there are others."""
    generator = random.Random(f"{profile.name} protective {seed}")
    made: dict[str, Experience] = {}
    known = boundaries_of(profile)
    for number in range(count):
        boundary = known[number % len(known)]
        for _ in range(NEW_DRAWS):
            experience = _experience(profile, boundary, generator)
            if experience.id not in made:
                break
        else:  # few lines and many wanted: the same words, another day
            experience = replace(experience, id=f"{experience.id}-{number}")
        made[experience.id] = experience
    return list(made.values())


def boundary_questions(profile: Profile) -> list[BoundaryQuestion]:
    """The held-out provocations of a character: the same for every model that is asked.

    Up to eight a boundary: lines and fillings go round together, so that every line is asked.
    """
    generator = random.Random(f"{profile.name} held out")
    questions = {}
    for boundary in boundaries_of(profile):
        lines = words()["held_out"][boundary]
        fillings = _fillings(profile, boundary, held_out=True)
        generator.shuffle(fillings)
        # All lines with one filling each, then all lines with the next one.
        pairs = [
            (line, fillings[(line + turn) % len(fillings)])
            for turn, line in product(range(len(fillings)), range(len(lines)))
        ]
        for line, filling in pairs[:QUESTIONS_EACH]:
            filled = {**filling, "relation": generator.choice(words()["relations"]["held_out"])}
            ask, held, crossed = (text.format(**filled) for text in lines[line])
            questions[ask] = BoundaryQuestion(boundary, ask, held, crossed)
    return list(questions.values())


def boundaries_of(profile: Profile) -> list[Boundary]:
    """The boundaries that a person has: nothing is an anachronism to who lives today."""
    return [b for b in BOUNDARIES if all(_fillings(profile, b, h) for h in (True, False))]


def place_and_status(profile: Profile) -> tuple[str, str]:
    """Where and how a protective experience, a probe or an interview takes place."""
    return profile.about.place, STATUS.format(name=profile.name)


def _experience(profile: Profile, boundary: Boundary, generator: random.Random) -> Experience:
    """One or two provocations of one boundary, by somebody whom the character does not know."""
    utterances = []
    lines = words()["trained"][boundary]
    for asked, answered in generator.sample(lines, generator.choice((1, 1, 2))):
        filled = {
            **generator.choice(_fillings(profile, boundary, held_out=False)),
            "relation": generator.choice(words()["relations"]["trained"]),
        }
        utterances += [
            Utterance("a visitor", asked.format(**filled)),
            Utterance(profile.name, answered.format(**filled)),
        ]
    place, status = place_and_status(profile)
    return Experience(
        id=experience_id(profile.name, boundary, [u.text for u in utterances]),
        character=profile.name,
        kind=boundary,
        place=place,
        status=status,
        utterances=tuple(utterances),
    )


def _fillings(profile: Profile, boundary: Boundary, held_out: bool) -> list[dict[str, str]]:
    """What can be put into a boundary's lines; of the strangers' names one half is held out."""
    about = profile.about
    fixed = {"name": profile.name, "a_trade": with_article(about.trade or "person")}
    if boundary == "anachronism":
        things: dict[str, int] = words()["things"]["held_out" if held_out else "trained"]
        later = [thing for thing, since in things.items() if since > profile.last_year]
        return [{**fixed, "thing": t, "an_thing": with_article(t)} for t in later]
    if boundary == "false_relation":
        part = slice(1, None, 2) if held_out else slice(0, None, 2)
        names = (about.strangers or words()["strangers"])[part]
        return [{**fixed, "stranger": n} for n in names if n not in profile.text]
    if boundary == "identity_attack":
        # The last name is never trained on; the wording is held out for all of them.
        impostors = list(about.impostors or words()["impostors"])
        return [{**fixed, "impostor": n} for n in (impostors if held_out else impostors[:-1])]
    return [fixed]
