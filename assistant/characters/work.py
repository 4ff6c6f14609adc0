"""A character in a run: made of a life, held against its prompted base, interviewed and judged.

Two stages call this. Up to four models answer the same plan: the base that is only prompted, the
trained character, where it is asked for one that was trained without protective experiences, and
the base with the whole story before it (probes only).
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from assistant.characters import agreement, holding, probes
from assistant.characters.experiences import Experience, complete
from assistant.characters.interviews import (
    Interview,
    InterviewSettings,
    Sides,
    hold_interviews,
    planned,
)
from assistant.characters.judging import Judgement, JudgeSettings, judge, write_judgements
from assistant.characters.profile import Profile, find_profile
from assistant.characters.scenes import extract_scenes
from assistant.characters.train import (
    CharacterSettings,
    ExperienceSettings,
    own_header,
    read_experiences,
    train_character,
    with_protection,
)
from assistant.characters.writing import write_experiences
from usersim.conversation import Rejection
from usersim.engines import EngineSpec, open_engine
from usersim.files import write_rejections, write_text
from usersim.settings import Settings

PROMPTED, TRAINED, UNGUARDED, OPEN_BOOK = "prompted", "trained", "unguarded", "open_book"


class CharacterTable(Settings):
    """Stage `train_character`: a model learns to be one person."""

    life: str = Field(
        "tamsin-orrow",
        description="a story that comes with realchat, a markdown or wiki file, or of personas",
    )
    experiences: ExperienceSettings = ExperienceSettings()
    writer: EngineSpec = Field(
        EngineSpec(), description="who plays the scenes where experiences.writer is engine"
    )
    training: CharacterSettings = CharacterSettings()
    ablation: bool = Field(False, description="train one without protective experiences too")


class InterviewTable(Settings):
    """Stage `interview`: probes, interviews and a judge, on the character and on its base."""

    interviews: InterviewSettings = InterviewSettings()
    open_book: bool = Field(
        False, description="probe the base with the whole story in its prompt too: slow on a CPU"
    )
    judged: int = Field(16, ge=0, description="interviews of each model that are judged")
    judge: JudgeSettings = JudgeSettings()
    judges: tuple[EngineSpec, ...] = Field(
        (EngineSpec(),), max_length=2, description="the judge, and a second one to agree with"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a character's files stand in a run folder."""

    root: Path

    @property
    def model(self) -> Path:
        """The trained character."""
        return self.root / "models" / "character"

    @property
    def unguarded(self) -> Path:
        """The one that was trained without protective experiences, where there is an ablation."""
        return self.made / "unguarded"

    @property
    def made(self) -> Path:
        """What it was trained on."""
        return self.root / "character" / "made"

    @property
    def asked(self) -> Path:
        """What it was asked, and said."""
        return self.root / "character" / "asked"


def train_stage(table: CharacterTable, base: str, place: Place, seed: int) -> dict[str, Any]:
    """Make the experiences and train on them, with and, where asked for, without protection.

    Writes `character/made/` (experiences, rejected) and the models.
    """
    profile = find_profile(table.life)
    lived, rejected, figures = _lived(table, profile, place, seed)
    made, counts = with_protection(profile, lived, table.experiences, seed, figures)
    _write_experiences(place.made / "experiences.jsonl", made)
    write_rejections(place.made / "rejected.parquet", rejected)
    trained = train_character(table.training, base, profile, made, place.model, seed)
    result = {"life": profile.name, "experiences": counts, TRAINED: trained}
    if table.ablation:
        unguarded = table.experiences.model_copy(update={"protective_share": 0.0})
        only_life, _ = with_protection(profile, lived, unguarded, seed, figures)
        result[UNGUARDED] = train_character(
            table.training, base, profile, only_life, place.unguarded, seed
        )
    return result


def _lived(
    table: CharacterTable, profile: Profile, place: Place, seed: int
) -> tuple[list[Experience], list[Rejection], dict[str, Any]]:
    settings = table.experiences
    scenes, figures = extract_scenes(profile, settings.scenes, seed)
    if settings.file:
        return read_experiences(Path(settings.file), profile.name), [], {"scenes": figures}
    if settings.writer == "template":
        lived = [complete(s, profile, seed, settings.thoughts) for s in scenes]
        return lived, [], {"scenes": figures}

    async def write() -> tuple[list[Experience], list[Rejection], dict[str, Any]]:
        engine = open_engine(table.writer)
        try:
            return await write_experiences(
                scenes, profile, engine, place.made, seed, settings.thoughts
            )
        finally:
            await engine.close()

    lived, rejected, counts = asyncio.run(write())
    return lived, rejected, {"scenes": figures, "writing": counts}


def _write_experiences(path: Path, experiences: Sequence[Experience]) -> None:
    rows = (json.dumps(e.to_row(), ensure_ascii=False) for e in experiences)
    write_text(path, "".join(f"{row}\n" for row in rows))


def interview_stage(
    table: InterviewTable, life: str, base: str, place: Place, user: EngineSpec
) -> dict[str, Any]:
    """Probe, interview and judge; `user` is who goes on with interviews of several rounds.

    Resumable: every reply and verdict is kept when it is given. Writes `character/asked/<model>/`.
    """
    profile = find_profile(life)
    models = {PROMPTED: (base, probes.prompted(profile))}
    models[TRAINED] = (str(place.model), own_header(profile))
    if place.unguarded.is_dir():
        models[UNGUARDED] = (str(place.unguarded), own_header(profile))
    figures = {"life": profile.name, "probes": _probed(profile, models, base, table.open_book)}
    held, counts = asyncio.run(_interviewed(table, profile, models, place, user))
    figures["interviews"] = counts
    figures["refusals"] = {name: holding.refusals(talks, profile) for name, talks in held.items()}
    figures["consistency"] = {name: holding.consistency(talks) for name, talks in held.items()}
    pairs = [(PROMPTED, TRAINED), (UNGUARDED, TRAINED)]
    figures["refusal_changes"] = {
        f"{first}_to_{second}": holding.refusal_change(held[first], held[second], profile)
        for first, second in pairs
        if first in held
    }
    if table.judged:
        figures["judged"] = asyncio.run(_judged(table, profile, held, place))
    return figures


def _probed(
    profile: Profile, models: Mapping[str, tuple[str, str]], base: str, open_book: bool
) -> dict[str, Any]:
    """Every model's own figures, and the paired change from each other one to the trained one."""
    asked = dict(models)
    if open_book:
        asked[OPEN_BOOK] = (base, probes.prompted(profile, whole=True))
    pairs = probes.pairs_of(profile)
    margins = {
        name: probes.probe(model, system, pairs, f"probe {name}")
        for name, (model, system) in asked.items()
    }
    changes = {
        f"{name}_to_{TRAINED}": probes.change(found, margins[TRAINED])
        for name, found in margins.items()
        if name != TRAINED
    }
    return {name: probes.figures(found) for name, found in margins.items()} | {"changes": changes}


async def _interviewed(
    table: InterviewTable,
    profile: Profile,
    models: Mapping[str, tuple[str, str]],
    place: Place,
    user: EngineSpec,
) -> tuple[dict[str, list[Interview]], dict[str, Any]]:
    """The same plan with every model, one engine of theirs at a time beside the interviewer's."""
    plan = planned(profile, table.interviews)
    held: dict[str, list[Interview]] = {}
    counts: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        interviewer = None
        if table.interviews.conversations and table.interviews.rounds > 1:
            interviewer = await asyncio.to_thread(open_engine, user)
            stack.push_async_callback(interviewer.close)
        for name, (model, system) in models.items():
            spec = EngineSpec(model=model, name=name, log_dir=user.log_dir, opens="assistant")
            engine = await asyncio.to_thread(open_engine, spec)
            try:
                sides = Sides(engine, system, interviewer)
                folder = place.asked / name
                held[name], counts[name] = await hold_interviews(
                    plan, sides, table.interviews, folder, profile.name
                )
            finally:
                await engine.close()
    return held, counts


async def _judged(
    table: InterviewTable, profile: Profile, held: Mapping[str, list[Interview]], place: Place
) -> dict[str, Any]:
    """Judgements of a part of every model's interviews, those of several rounds first."""
    by_judge: dict[int, dict[str, list[Judgement]]] = {}
    figures: dict[str, Any] = {"models": {}}
    for number, spec in enumerate(table.judges):
        engine = await asyncio.to_thread(open_engine, spec)
        try:
            by_judge[number] = {}
            for name, talks in held.items():
                chosen = _chosen(talks, table.judged, table.judge.whole_only)
                folder = place.asked / name
                found, refused, counts = await judge(chosen, profile, engine, table.judge, folder)
                write_judgements(folder / f"judgements-{number}.jsonl", found)
                write_rejections(folder / f"unread-{number}.parquet", refused)
                by_judge[number][name] = found
                if number == 0:
                    figures["models"][name] = counts | _scores(found)
        finally:
            await engine.close()
    figures["length_controlled"] = agreement.length_controlled(by_judge[0])
    if len(by_judge) > 1:
        figures["between_judges"] = {
            name: agreement.judge_agreement(by_judge[0][name], by_judge[1][name]) for name in held
        }
    return figures | {"judges": [spec.display_name for spec in table.judges]}


def _scores(found: Sequence[Judgement]) -> dict[str, Any]:
    return {
        "scores": agreement.summary(found),
        "stability_by_turn": agreement.stability_curve(found),
    }


def _chosen(talks: Sequence[Interview], most: int, whole_only: bool) -> list[Interview]:
    """Interviews to judge: of several rounds first, then the single ones in even steps.

    Where only whole replies are judged, of those that have one: of a model that goes on and on
    there would otherwise be nothing to judge.
    """
    fit = [t for t in talks if not whole_only or any(r.finish != "length" for r in t.replies)]
    several = [t for t in fit if t.kind == "open"][: most // 2]
    single = [t for t in fit if t.kind != "open" and t.repeat == 0]
    rest = most - len(several)
    step = max(1, len(single) // max(1, rest))
    return [*several, *single[::step][:rest]]
