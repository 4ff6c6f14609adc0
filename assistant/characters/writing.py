"""Experiences that a model writes: a script under a schema, each line with the paragraph it is of.

The schema makes a parse failure impossible on an engine that decodes under a grammar, and it knows
only rounds: somebody asks, the character answers. A free list of lines let a small model write what
the other one says and nothing else. What it writes is weak all the same, so each script is held
against its paragraph, and the template's completion takes the place of one that is refused: every
scene is played, nothing is lost unsaid.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from assistant.characters.evidence import stems
from assistant.characters.experiences import Action, Experience, Utterance, complete, experience_id
from assistant.characters.notebook import Notebook
from assistant.characters.profile import Profile
from assistant.characters.scenes import Scene
from assistant.characters.structured import Form, Refused, read_answer, schema_of
from usersim.conversation import Message, Rejection
from usersim.engine import Engine, Sampling, all_or_none
from usersim.errors import DeterministicError, EngineDead, TransientError, WorldError
from usersim.files import fingerprint
from usersim.progress import track

GROUNDED = 0.3
"""Share of the character's content words that must stand in the paragraph. What the template says
of 400 scenes has 0.94 (median; least 0.71) in its own paragraph, and in another one of the same
story 1 in 100 reaches 0.3."""
MOST_TOKENS = 448  # three rounds of 400 characters and their keys take about 340 in English
CONCURRENT = 32


class Round(Form):
    """Somebody asks; the character may think, and answers."""

    asked: str = Field(min_length=4, max_length=120)
    thought: str = Field("", max_length=120)
    answered: str = Field(min_length=12, max_length=160)


class Script(Form):
    """What the model answers: a scene played out."""

    rounds: tuple[Round, ...] = Field(min_length=1, max_length=3)


async def write_experiences(
    scenes: Sequence[Scene],
    profile: Profile,
    engine: Engine,
    folder: Path,
    seed: int = 0,
    thoughts: float = 0.0,
) -> tuple[list[Experience], list[Rejection], dict[str, Any]]:
    """One experience a scene, in order: the engine's, or the template's where that is refused.

    `thoughts` is the share of the template's scenes in which the character thinks. Returns them,
    what was refused and why, and counts. Resumable: nothing is asked twice. Raises WorldError when
    the engine dies.
    """
    plan = fingerprint([[s.id for s in scenes], profile.text, seed, schema_of(Script)])
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
            results = await all_or_none(written(n, s) for n, s in enumerate(scenes))
        except (EngineDead, TransientError) as error:
            raise WorldError(f"writing stopped: {error}; the same command goes on") from error
    refused = [r for r in results if isinstance(r, Rejection)]
    kept = [
        complete(scene, profile, seed, thoughts) if isinstance(result, Rejection) else result
        for scene, result in zip(scenes, results, strict=True)
    ]
    reasons = dict(Counter(r.reason for r in refused))
    counts = {"asked": len(scenes), "written": len(scenes) - len(refused), "refused": reasons}
    return kept, refused, counts


def grounded(text: str, profile: Profile, paragraph: str) -> float:
    """Share of a text's content words that stand in its paragraph; 0 where it has none."""
    source = set(stems(profile.paragraph(paragraph).text)) | set(stems(profile.name))
    words = stems(text)
    return sum(w in source for w in words) / len(words) if words else 0.0


def _judged(
    script: Script, scene: Scene, profile: Profile, model: str, raw: str
) -> Experience | Rejection:
    """The experience, or why it may not be learned from."""

    def refused(reason: str, detail: str) -> Rejection:
        return Rejection(scene.id, "experiences", reason, detail, raw)

    if not all(r.asked.strip() and r.answered.strip() for r in script.rounds):
        return refused("empty_line", "somebody says nothing")
    own = " ".join(f"{r.thought} {r.answered}" for r in script.rounds)
    share = grounded(own, profile, scene.paragraph)
    if share < GROUNDED:
        return refused("ungrounded", f"{share:.2f} of its words stand in {scene.paragraph}")
    return Experience(
        id=experience_id(scene.id, model, raw),
        character=profile.name,
        kind="life",
        place=scene.place,
        status=scene.background,
        utterances=tuple(_utterances(script, scene, profile)),
        paragraph=scene.paragraph,
        scene=scene.id,
        writer=model,
    )


def _utterances(script: Script, scene: Scene, profile: Profile) -> Iterator[Utterance]:
    """The script's lines, each with the paragraph that it is of."""
    for said in script.rounds:
        lines: list[tuple[str, str, Action]] = [
            (scene.partner, said.asked, "speaking"),
            (profile.name, said.thought, "thinking"),
            (profile.name, said.answered, "speaking"),
        ]
        for speaker, text, action in lines:
            if text.strip():
                yield Utterance(speaker, " ".join(text.split()), action, scene.paragraph)


def _prompt(scene: Scene, profile: Profile) -> list[Message]:
    paragraph = profile.paragraph(scene.paragraph)
    system = (
        f"You write short interviews with {profile.name}. Use only the notes. {scene.partner} asks"
        f" about {scene.topic}; {profile.name} answers and says `I`. Answer with JSON:"
        ' {"rounds": [{"asked": a question, "answered": what the notes say}, ...]}.'
    )
    text = f"Notes: {paragraph.text}\nPlace: {scene.place}\nScene: {scene.background}"
    return [Message("system", system), Message("user", text)]


def _sampling(seed: int) -> Sampling:
    return Sampling(
        max_tokens=MOST_TOKENS, temperature=0.8, top_p=0.95, seed=seed, schema=schema_of(Script)
    )
