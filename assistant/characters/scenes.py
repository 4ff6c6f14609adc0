"""Scenes: where and with whom a person speaks of a paragraph of their life.

Every paragraph gets at least one; the rest go to paragraphs by their length. A scene is made from
the paragraph alone, so that whatever is said in it can be traced to the paragraph's id.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from assistant.characters.profile import Paragraph, Profile
from assistant.characters.voice import first_person
from usersim.errors import InputError
from usersim.files import fingerprint
from usersim.neardup import jaccard
from usersim.shingling import Shingling

SceneType = Literal["chat", "interview", "discussion", "debate", "speech"]
SCENE_TYPES: tuple[SceneType, ...] = get_args(SceneType)
DUPLICATE = 0.9
"""Jaccard similarity of two scenes' three-word runs, of one paragraph, from which one goes."""
NO_TOPIC = "that time"  # where a sentence names nothing that can be asked about
ATTEMPTS = 30  # near-duplicates in a row after which the paragraph counts as exhausted

PLACES = (
    "a kitchen table", "a bench by the water", "a railway waiting room", "a market square",
    "a village school", "a garden in the evening", "an inn by the road", "a crowded hall",
    "a hospital ward", "a long cart ride", "a churchyard wall", "a shop after closing time",
)  # fmt: skip
PARTNERS = (
    "a young apprentice", "a neighbour", "a newspaper reporter", "a schoolteacher",
    "a curious child", "an old friend", "a traveller", "a doctor", "a cousin from far away",
    "a student", "a priest", "a shopkeeper", "a sceptical official",
)  # fmt: skip
BACKGROUNDS: dict[SceneType, tuple[str, ...]] = {
    "chat": ("{partner} sits down beside {name}, and they come to speak of {topic}.",
             "On a slow day {partner} asks {name} about {topic}."),
    "interview": ("{partner} has come with a notebook to ask {name} about {topic}.",
                  "{name} has agreed to answer {partner}, who wants to know about {topic}."),
    "discussion": ("{name} and {partner} talk over what {topic} meant.",
                   "{partner} has heard of {topic} and wants to understand it with {name}."),
    "debate": ("{partner} doubts what people say of {topic}, and {name} answers.",
               "{name} and {partner} disagree about {topic}."),
    "speech": ("{name} has been asked to tell a small gathering of {topic}; {partner} is there.",
               "{partner} calls on {name} to speak of {topic} in front of everybody."),
}  # fmt: skip
# Words that are capitalised for other reasons than being a name.
_NO_NAMES = frozenset(
    re.findall(
        r"\w+",
        """January February March April May June July August September October November December
        Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mr Mrs Dr I It He She They We At In
        On When After During The A An As If For Her His My Our Years Nobody People Three All Note
        With Once But And By Lying Afterwards Most Last One Only From Later Forty Nothing While""",
    )
)


_NO_NOUNS = frozenset(
    (
        "arriving",
        "out",
        "again",
        "closed",
        "come",
        "one",
        "ones",
        "rest",
        "while",
        "side",
        "way",
        "did",
        "her",
        "him",
        "them",
        "it",
    )
)
_SMALL = "of|in|on|at|and|or|for|from|to|with|by|that|who|which|was|were|had|when|where|because|so"


@dataclass(frozen=True, slots=True)
class Scene:
    """One occasion to speak of one paragraph."""

    id: str
    paragraph: str
    type: SceneType
    place: str
    partner: str
    topic: str
    background: str
    focus: tuple[int, ...]
    """Numbers of the paragraph's sentences that the scene is about."""


def extract_scenes(
    profile: Profile, count: int, seed: int = 0
) -> tuple[list[Scene], dict[str, Any]]:
    """About `count` scenes that cover every paragraph, and figures of how they are spread.

    Raises InputError when `count` is below the number of paragraphs. Fewer come out only where the
    paragraphs are exhausted: the figures hold `wanted`, `made` and `duplicates`.
    """
    if count < len(profile.paragraphs):
        raise InputError(
            f"{count} scenes cannot cover the {len(profile.paragraphs)} paragraphs of"
            f" {profile.name}: ask for at least one each"
        )
    scenes: list[Scene] = []
    duplicates = 0
    for paragraph, quota in zip(profile.paragraphs, shares(profile, count), strict=True):
        made, refused = _scenes_of(profile, paragraph, quota, seed)
        scenes += made
        duplicates += refused
    by_paragraph = Counter(s.paragraph for s in scenes)
    return scenes, {
        "wanted": count,
        "made": len(scenes),
        "duplicates": duplicates,
        "paragraphs": len(profile.paragraphs),
        "covered": len(by_paragraph),
        "by_paragraph": dict(sorted(by_paragraph.items())),
        "by_type": dict(Counter(s.type for s in scenes)),
    }


def shares(profile: Profile, count: int) -> list[int]:
    """How many scenes each paragraph gets: one, and a part of the rest by its words.

    Largest remainders decide, so the sum is `count` exactly.
    """
    total = sum(p.words for p in profile.paragraphs)
    rest = count - len(profile.paragraphs)
    exact = [rest * p.words / total for p in profile.paragraphs]
    whole = [int(x) for x in exact]
    order = sorted(range(len(exact)), key=lambda n: (whole[n] - exact[n], n))
    for n in order[: rest - sum(whole)]:
        whole[n] += 1
    return [1 + n for n in whole]


def topics(text: str, profile: Profile) -> list[str]:
    """What a sentence can be asked about: `your father`, names in it, things with an article."""
    own = set(profile.name.split())
    said = first_person(text, profile)
    mine = rf"\b[Mm]y ((?:[a-z-]+ )?[a-z]{{3,}})(?=[.,;:]| (?:{_SMALL})\b| [A-Z])"
    found = [f"your {thing}" for thing in re.findall(mine, said)]
    for run in re.findall(r"\b[A-Z][\w\u2019-]+(?: [A-Z][\w\u2019-]+)*", text):
        words = [w for w in run.split() if w not in _NO_NAMES and w not in own]
        if words:
            found.append(" ".join(words))
    # Before a comma or a small word stands the noun of `an old, leaking coal barge for the price`.
    nouns = rf"\b(?:an?|the) (?:[a-z-]+ ){{0,2}}?([a-z]{{3,}})(?=[.,;:]| (?:{_SMALL})\b)"
    found += [f"the {noun}" for noun in re.findall(nouns, text) if noun not in _NO_NOUNS]
    return list(dict.fromkeys(found)) or [NO_TOPIC]


def _scenes_of(
    profile: Profile, paragraph: Paragraph, quota: int, seed: int
) -> tuple[list[Scene], int]:
    """The paragraph's scenes, and how many draws were refused as near-duplicates."""
    shingling, refused = Shingling(words=3), 0
    made: list[Scene] = []
    seen: list[frozenset[str]] = []
    in_a_row = 0
    for scene in _draws(profile, paragraph, seed):
        if len(made) == quota or in_a_row == ATTEMPTS:
            break
        shingles = shingling.shingles(_as_text(scene))
        if any(jaccard(shingles, other) >= DUPLICATE for other in seen):
            refused, in_a_row = refused + 1, in_a_row + 1
            continue
        in_a_row = 0
        seen.append(shingles)
        made.append(scene)
    return made, refused


def _as_text(scene: Scene) -> str:
    return f"{scene.type} at {scene.place} about sentences {scene.focus}: {scene.background}"


def _draws(profile: Profile, paragraph: Paragraph, seed: int) -> Iterator[Scene]:
    """Endless draws, the same for the same profile and seed; types and sentences take turns."""
    generator = random.Random(f"{profile.name} {paragraph.id} {seed}")
    types = generator.sample(SCENE_TYPES, len(SCENE_TYPES))
    windows = _windows(len(paragraph.sentences))
    offset = generator.randrange(len(windows))
    number = 0
    while True:
        kind = types[number % len(types)]
        focus = windows[(offset + number) % len(windows)]
        yield _scene(profile, paragraph, kind, focus, generator)
        number += 1


def _windows(num_sentences: int) -> list[tuple[int, ...]]:
    """The whole paragraph first, then each run of two sentences, then each alone."""
    whole = tuple(range(num_sentences))
    runs = [whole[n : n + size] for size in (2, 1) for n in range(num_sentences - size + 1)]
    return list(dict.fromkeys([whole, *runs]))


def _scene(
    profile: Profile,
    paragraph: Paragraph,
    kind: SceneType,
    focus: Sequence[int],
    generator: random.Random,
) -> Scene:
    text = " ".join(paragraph.sentences[n] for n in focus)
    topic = generator.choice(topics(text, profile))
    place, partner = generator.choice(PLACES), generator.choice(PARTNERS)
    shown = topic.replace("your ", "the ", 1) if topic.startswith("your ") else topic
    background = generator.choice(BACKGROUNDS[kind]).format(
        partner=partner, name=profile.name, topic=shown
    )
    background = background[0].upper() + background[1:]
    key = [profile.name, paragraph.id, kind, list(focus), place, partner, topic, background]
    return Scene(
        id=fingerprint(key),
        paragraph=paragraph.id,
        type=kind,
        place=place,
        partner=partner,
        topic=topic,
        background=background,
        focus=tuple(focus),
    )
