"""Experiences that a model writes: a script under a schema, each line with the paragraph it is of.

The schema makes a parse failure impossible on an engine that decodes under a grammar. What a small
model writes is weak all the same, so each script is held against its paragraph, and the template's
completion takes the place of one that is refused: every scene is played, nothing is lost unsaid.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assistant.characters.evidence import stems
from assistant.characters.experiences import Experience, Utterance, complete, experience_id
from assistant.characters.notebook import Notebook
from assistant.characters.profile import Profile
from assistant.characters.scenes import Scene
from assistant.characters.structured import Refused, read_answer, schema_of
from usersim.conversation import Message, Rejection
from usersim.engine import Engine, Sampling
from usersim.errors import DeterministicError, EngineDead, TransientError, WorldError
from usersim.files import fingerprint
from usersim.progress import track
from usersim.settings import Settings

GROUNDED = 0.3
"""Share of the character's content words that must stand in the paragraph. What the template says
of 400 scenes has 0.94 (median; least 0.71) in its own paragraph, and in another one of the same
story 1 in 100 reaches 0.3."""
MOST_TOKENS = 448  # six lines of 120 characters and their keys take about 300 in English
CONCURRENT = 32


class Line(Settings):
    """One line of a script."""

    speaker: Literal["character", "other"]
    action: Literal["speaking", "thinking"]
    text: str = Field(min_length=1, max_length=120)


class Script(Settings):
    """What the model answers: a scene played out."""

    lines: tuple[Line, ...] = Field(min_length=2, max_length=6)


async def write_experiences(
    scenes: Sequence[Scene], profile: Profile, engine: Engine, folder: Path, seed: int = 0
) -> tuple[list[Experience], list[Rejection], dict[str, Any]]:
    """One experience a scene, in order: the engine's, or the template's where that is refused.

    Returns them, what was refused and why, and counts. Resumable: nothing is asked twice. Raises
    WorldError when the engine dies.
    """
    plan = fingerprint([[s.id for s in scenes], profile.text, seed])
    slots = asyncio.Semaphore(CONCURRENT)
    owner = {"plan": plan, "writer": engine.model}
    with (
        Notebook(folder / "scripts.sqlite", owner) as book,
        track("experiences", len(scenes), "scenes") as bar,
    ):

        async def written(number: int, scene: Scene) -> Experience | Rejection:
            async with slots:
                try:
                    made = await book.ask(
                        (number, 1), engine, _prompt(scene, profile), _sampling(seed + number)
                    )
                except DeterministicError as error:
                    return Rejection(scene.id, "experiences", error.reason, str(error), "")
                finally:
                    bar.advance()
            found = read_answer(made, Script)
            if isinstance(found, Refused):
                return Rejection(scene.id, "experiences", found.reason, found.detail, made.text)
            return _judged(found, scene, profile, engine.model, made.text)

        try:
            results = await asyncio.gather(*(written(n, s) for n, s in enumerate(scenes)))
        except (EngineDead, TransientError) as error:
            raise WorldError(f"writing stopped: {error}; the same command goes on") from error
    refused = [r for r in results if isinstance(r, Rejection)]
    kept = [
        complete(scene, profile, seed) if isinstance(result, Rejection) else result
        for scene, result in zip(scenes, results, strict=True)
    ]
    reasons = dict(Counter(r.reason for r in refused))
    counts = {"asked": len(scenes), "written": len(scenes) - len(refused), "refused": reasons}
    return kept, refused, counts


def grounded(text: str, profile: Profile, paragraph: str) -> float:
    """Share of a line's content words that stand in its paragraph; 1 where it has none."""
    source = set(stems(profile.paragraph(paragraph).text)) | set(stems(profile.name))
    words = stems(text)
    return sum(w in source for w in words) / len(words) if words else 1.0


def _judged(
    script: Script, scene: Scene, profile: Profile, model: str, raw: str
) -> Experience | Rejection:
    """The experience, or why it may not be learned from."""

    def refused(reason: str, detail: str) -> Rejection:
        return Rejection(scene.id, "experiences", reason, detail, raw)

    own = [line for line in script.lines if line.speaker == "character"]
    if not any(line.action == "speaking" for line in own):
        return refused("character_is_silent", "no line in which the character speaks")
    if any(line.speaker == "other" and line.action == "thinking" for line in script.lines):
        return refused("stranger_thinks", "only the character's thoughts are known")
    if not all(line.text.strip() for line in script.lines):
        return refused("empty_line", "a line says nothing")
    share = grounded(" ".join(line.text for line in own), profile, scene.paragraph)
    if share < GROUNDED:
        return refused("ungrounded", f"{share:.2f} of its words stand in {scene.paragraph}")
    said = tuple(
        Utterance(
            profile.name if line.speaker == "character" else scene.partner,
            " ".join(line.text.split()),
            line.action,
            scene.paragraph,
        )
        for line in script.lines
    )
    return Experience(
        id=experience_id(scene.id, model, raw),
        character=profile.name,
        kind="life",
        place=scene.place,
        status=scene.background,
        utterances=said,
        paragraph=scene.paragraph,
        scene=scene.id,
        writer=model,
    )


def _prompt(scene: Scene, profile: Profile) -> list[Message]:
    paragraph = profile.paragraph(scene.paragraph)
    system = (
        f"You write short scenes from the life of {profile.name}. Use only the notes. The character"
        f" is {profile.name} and says `I`; the other is {scene.partner}, who asks. Answer with"
        ' JSON: {"lines": [{"speaker": "other", "action": "speaking", "text": "..."}, ...]}.'
    )
    text = f"Notes: {paragraph.text}\nPlace: {scene.place}\nScene: {scene.background}"
    return [Message("system", system), Message("user", text)]


def _sampling(seed: int) -> Sampling:
    return Sampling(
        max_tokens=MOST_TOKENS, temperature=0.8, top_p=0.95, seed=seed, schema=schema_of(Script)
    )
