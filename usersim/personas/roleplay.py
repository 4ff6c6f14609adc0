"""Role-play in the ordinary simulation: what each side of a conversation is told.

The assistant plays a character in a scene: its system message holds the persona as prose and the
scene. The user may be free, or be another of the personas: then UserGPT is told how that person
writes (in the phrases it was trained on) and what the talk is about.
"""

from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator

from usersim.conditions import Profile
from usersim.personas.prose import ASPECTS, SENTENCES, to_prose
from usersim.personas.scenes import Scene
from usersim.personas.schema import Persona, WritingStyle

ASKING = ("Stay in character, whatever you are asked.", "Answer in one to three short sentences.")
NO_STYLE = ("style", "language.english")
"""What a character who speaks is not told: it is about typing."""

_OPENS = {"short": "a few words", "medium": "a short line", "long": "a line or two"}
_GOES_ON = {"short": "a few words", "medium": "a short line", "long": "a paragraph"}


def _something_left_out(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names; a ValueError for one that leaves out nothing."""
    groups = {name.partition(".")[0] for name in SENTENCES if "." in name}
    known = ("aspects", "scene", "emotion", *sorted(groups), *SENTENCES)
    for name in names:
        if name not in known:
            near = [k for k in known if k.endswith(f".{name}")] or get_close_matches(name, known)
            meant = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{name!r} is no part of what a character is told; {meant}")
    return names


LeftOut = Annotated[tuple[str, ...], AfterValidator(_something_left_out)]
"""Names of what a character is not told: aspects, scene, emotion, a group or an attribute."""


def profile_of_style(style: WritingStyle) -> Profile:
    """The profile that UserGPT was trained to follow, as near as it says what the style says."""
    polite = style.politeness == "often" or style.formality == "formal"
    return Profile(
        opens_with=_OPENS[style.length],
        goes_on_with=_GOES_ON[style.length],
        case="lower case" if style.capitals == "none" else "upper case",
        ends="are left open" if style.punctuation == "none" else "are marked",
        tone="polite" if polite else "plain",
    )


def profile_line(persona: Persona) -> str:
    """The persona's way of writing, as one line for UserGPT."""
    return profile_of_style(persona.style).line()


def character_system(persona: Persona, scene: Scene, leave_out: tuple[str, ...] = ()) -> str:
    """What the assistant is told of who and where it is.

    `leave_out` may name "aspects", "scene", "emotion", or any attribute or group of the prose.
    """
    hidden = {"aspects": ASPECTS}
    left_out = tuple(name for given in leave_out for name in hidden.get(given, (given,)))
    return "\n".join(
        [
            f"You are {persona.name}. {ASKING[0]}",
            to_prose(persona, (*NO_STYLE, *left_out)),
            *scene_lines(scene, leave_out),
            ASKING[1],
        ]
    )


def scene_lines(scene: Scene, leave_out: tuple[str, ...] = ()) -> list[str]:
    """The scene as lines of a header: location, status, topic, emotion."""
    lines = []
    if "scene" not in leave_out:
        lines += [f"Location: {scene.location}", f"Status: {scene.background}"]
        lines.append(f"Topic: {scene.topic}")
    if "emotion" not in leave_out:
        lines.append(f"Emotion: {scene.emotion}")
    return lines
