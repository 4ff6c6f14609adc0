"""Makes interactions: each utterance is one engine call that sees what its speaker may know.

Every act is planned (`acts`), so that speakers and actions are legal by construction; an engine
only fills in words. A finished utterance is in the journal before the next is asked for: the same
call again goes on from there, and asks for nothing twice.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usersim.conversation import Message, Rejection, Role
from usersim.engine import Completion, Engine
from usersim.engines import EngineSpec
from usersim.errors import DeterministicError, InputError, TransientError
from usersim.files import fingerprint, write_json, write_rejections
from usersim.guards import refuse_turn
from usersim.journal import Attempt, Ending, Journal, sole_owner
from usersim.personas.acts import Act, InteractSettings, acts_of, thinkers_of
from usersim.personas.prose import to_prose
from usersim.personas.roleplay import NO_STYLE, scene_lines
from usersim.personas.scenes import Scene
from usersim.personas.schema import Persona, write_personas
from usersim.personas.script import Script, Utterance, heard_by, write_scripts
from usersim.progress import Track, track
from usersim.simulate import all_or_first_error, open_engines

STAGE = "interact"


@dataclass(slots=True)
class Interaction:
    """One interaction under way."""

    index: int
    scene: Scene
    parties: tuple[Persona, ...]
    acts: list[Act]
    utterances: list[Utterance] = field(default_factory=list)
    attempts: int = 0
    ending: Ending | None = None

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names, the main character's first."""
        return tuple(p.name for p in self.parties)

    def take(self, attempt: Attempt) -> None:
        """Bring it to where it stands after this attempt."""
        if attempt.accepted:
            act = self.acts[len(self.utterances)]
            self.utterances.append(Utterance(act.speaker, act.action, attempt.text))
            self.attempts = 0
        else:
            self.attempts = attempt.attempt + 1


def plan(
    settings: InteractSettings, personas: Sequence[Persona], scenes: Sequence[Scene]
) -> list[Interaction]:
    """What is known of every interaction before anybody speaks. Raises InputError."""
    if len(personas) < settings.parties:
        raise InputError(f"{settings.parties} parties need as many personas, not {len(personas)}")
    places = {persona.id: place for place, persona in enumerate(personas)}
    if unknown := [s.id for s in scenes if s.persona_id not in places]:
        raise InputError(f"scene {unknown[0]} is of nobody in the file of personas")
    planned = []
    for index, scene in enumerate(scenes):
        first = places[scene.persona_id]
        others = (first + 1 + (index + n) % (len(personas) - 1) for n in range(settings.parties))
        chosen = dict.fromkeys([first, *(place % len(personas) for place in others)])
        parties = tuple(personas[place] for place in list(chosen)[: settings.parties])
        names = tuple(p.name for p in parties)
        if len(set(names)) < len(names):
            raise InputError(f"two people of one scene are called {names[0]}: rename one of them")
        acts = acts_of(settings, names, f"{settings.seed}:{scene.id}")
        planned.append(Interaction(index, scene, parties, acts))
    return planned


def prompt(interaction: Interaction, act: Act) -> list[Message]:
    """All that the speaker of an act may know: the scene, what was said, their own thoughts."""
    persona = next(p for p in interaction.parties if p.name == act.speaker)
    messages = [Message("system", _told(interaction, persona))]
    for said in heard_by(act.speaker, interaction.utterances):
        own = said.speaker == act.speaker
        thought = "(to myself) " if said.action == "thinking" else ""
        text = f"{thought}{said.content}" if own else f"{said.speaker}: {said.content}"
        _append(messages, "assistant" if own else "user", text)
    cue = "What do you think now, to yourself?" if act.action == "thinking" else "What do you say?"
    _append(messages, "user", f"({cue} One or two sentences, nothing else.)")
    return messages


def _told(interaction: Interaction, persona: Persona) -> str:
    others = ", ".join(name for name in interaction.speakers if name != persona.name)
    main = persona.name == interaction.speakers[0]
    emotion = () if main else ("emotion",)  # how the main character feels is their own affair
    return "\n".join(
        [
            f"You are {persona.name}, talking with {others}. Stay in character.",
            to_prose(persona, NO_STYLE),
            *scene_lines(interaction.scene, emotion),
        ]
    )


def _append(messages: list[Message], role: Role, text: str) -> None:
    """Roles alternate: what two others say in a row is one message."""
    if messages[-1].role == role:
        messages[-1] = Message(role, f"{messages[-1].content}\n{text}")
    else:
        messages.append(Message(role, text))


def refuse(settings: InteractSettings, interaction: Interaction, made: Completion) -> str:
    """Why an utterance is drawn again, or ""."""
    text, words = made.text.strip(), len(made.text.split())
    before = [Message("assistant", u.content) for u in interaction.utterances]
    if reason := refuse_turn(text, "assistant", made.finish_reason, before):
        return reason
    if any(text.startswith((f"{p.name}:", f"{p.first_name}:")) for p in interaction.parties):
        return "speaks_as_script"
    if made.finish_reason == "length" or words > settings.most_words:
        return "too_long"
    return "too_short" if words < settings.least_words else ""


def interact(
    settings: InteractSettings,
    personas: Sequence[Persona],
    scenes: Sequence[Scene],
    out: Path,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Play every scene that is not played yet; returns figures of the whole.

    Writes `out/{personas,scripts}.jsonl`, `out/rejected.parquet`, `out/figures.json` and a journal.
    Raises InputError when the folder holds other scenes, EngineDead when the engine is gone.
    """
    planned = plan(settings, personas, scenes)
    parties = [[p.id for p in i.parties] for i in planned]  # others, where people were added
    owner = {
        "scenes": fingerprint([s.id for s in scenes]),
        "people": fingerprint(parties),
        "settings": _identity(settings),
    }
    with (
        sole_owner(out / "journal"),
        Journal(out / "journal" / "interact.sqlite", owner) as journal,
    ):
        _resume(planned, journal)
        if any(i.ending is None for i in planned):
            asyncio.run(_play_all(settings, planned, journal, engine or settings.engine))
        refused = Counter(f"{a.reason}" for a in journal.attempts() if not a.accepted)
    return _close(settings, planned, refused, out)


def _identity(settings: InteractSettings) -> str:
    table = settings.model_dump(mode="json", exclude={"concurrency"})
    return fingerprint(table)


def _resume(planned: list[Interaction], journal: Journal) -> None:
    for attempt in journal.attempts():
        planned[attempt.conversation].take(attempt)
    for index, ending in journal.endings().items():
        planned[index].ending = ending


async def _play_all(
    settings: InteractSettings,
    planned: list[Interaction],
    journal: Journal,
    engine: EngineSpec | Engine,
) -> None:
    async with AsyncExitStack() as stack:
        opened = (await open_engines(stack, {"assistant": engine}))["assistant"]
        done = sum(i.ending is not None for i in planned)
        with track("interact", len(planned), "scenes", done) as bar:
            todo = iter([i for i in planned if i.ending is None])
            stage = _Stage(settings, journal, opened, bar)
            workers = [stage.work(todo) for _ in range(settings.concurrency)]
            await all_or_first_error([asyncio.create_task(worker) for worker in workers])


@dataclass(frozen=True, slots=True)
class _Stage:
    settings: InteractSettings
    journal: Journal
    engine: Engine
    bar: Track

    async def work(self, todo: Iterator[Interaction]) -> None:
        """Play scenes until there are none left."""
        for interaction in todo:
            interaction.ending = await self._play(interaction)
            await self.journal.add(interaction.ending)
            self.bar.advance()

    async def _play(self, interaction: Interaction) -> Ending:
        try:
            while len(interaction.utterances) < len(interaction.acts):
                reason = await self._draw(interaction)
                if reason and interaction.attempts >= self.settings.attempts:
                    return Ending(interaction.index, "bad_turn", reason)
        except (DeterministicError, TransientError) as error:
            reason = getattr(error, "reason", "transient_exhausted")
            return Ending(interaction.index, "error", reason, str(error))
        return Ending(interaction.index, "max_rounds")

    async def _draw(self, interaction: Interaction) -> str:
        """One attempt at the next act; journaled, and taken when it is accepted."""
        position, act = len(interaction.utterances), interaction.acts[len(interaction.utterances)]
        seed = int(fingerprint([self.settings.seed, interaction.scene.id, position,
                                interaction.attempts]), 16) >> 33  # fmt: skip
        made = await self.engine.complete(
            prompt(interaction, act), self.settings.sampling.drawn(seed)
        )
        reason = refuse(self.settings, interaction, made)
        main = act.speaker == interaction.speakers[0]
        attempt = Attempt(
            conversation=interaction.index,
            position=position,
            attempt=interaction.attempts,
            role="assistant" if main else "user",
            reason=reason,
            text=made.text.strip(),
            finish=made.finish_reason,
            prompt_tokens=made.prompt_tokens,
            completion_tokens=made.completion_tokens,
            cached_tokens=made.cached_tokens,
        )
        await self.journal.add(attempt)
        interaction.take(attempt)
        return reason


def _close(
    settings: InteractSettings, planned: list[Interaction], refused: Counter[str], out: Path
) -> dict[str, Any]:
    scripts = [_script(settings, i) for i in planned if len(i.utterances) == len(i.acts)]
    rejected = [_rejection(i) for i in planned if len(i.utterances) < len(i.acts)]
    assert len(scripts) + len(rejected) == len(planned), "a scene was lost"
    write_personas(out / "personas.jsonl", {p.id: p for i in planned for p in i.parties}.values())
    write_scripts(out / "scripts.jsonl", scripts)
    write_rejections(out / "rejected.parquet", rejected)
    utterances = [u for s in scripts for u in s.utterances]
    figures = {
        "scenes": len(planned),
        "scripts": len(scripts),
        "rejected": dict(sorted(Counter(r.reason for r in rejected).items())),
        "utterances": len(utterances),
        "thoughts": sum(u.action == "thinking" for u in utterances),
        "utterances_mean": round(len(utterances) / max(len(scripts), 1), 2),
        "words_mean": round(
            sum(len(u.content.split()) for u in utterances) / max(len(utterances), 1), 1
        ),
        "drawn_again": dict(sorted(refused.items())),
    }
    write_json(out / "figures.json", figures)
    return figures


def _script(settings: InteractSettings, interaction: Interaction) -> Script:
    return Script(
        id=interaction.scene.id,
        scene=interaction.scene,
        speakers=interaction.speakers,
        thinkers=thinkers_of(settings, interaction.speakers),
        utterances=tuple(interaction.utterances),
        source="interact",
    )


def _rejection(interaction: Interaction) -> Rejection:
    ending = interaction.ending
    assert ending is not None, f"scene {interaction.scene.id} has not ended"
    said = [[u.speaker, u.action, u.content] for u in interaction.utterances]
    record = json.dumps({"scene": interaction.scene.id, "said": said}, ensure_ascii=False)
    return Rejection(interaction.scene.id, STAGE, ending.reason, ending.detail, record)
