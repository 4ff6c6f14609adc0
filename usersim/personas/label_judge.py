"""An engine reads scripts without their headers and names emotion and topic from the closed lists.

Agreement with what was asked for stands beside chance: what a judge would reach that names its
labels as often, but blindly. An answer that is no label is counted by its reason and agrees with
nothing.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from pydantic import Field

from usersim.conversation import Message
from usersim.engine import Engine, Sampling
from usersim.engines import EngineSpec
from usersim.errors import DeterministicError
from usersim.personas.script import Script
from usersim.progress import Track, track
from usersim.settings import Settings
from usersim.simulate import all_or_first_error, open_engines

KINDS = ("emotion", "topic")


class LabelJudgeSettings(Settings):
    """Who judges, and how much they read."""

    engine: EngineSpec = Field(EngineSpec(), description="who reads")
    words: int = Field(300, ge=20, description="words of a script that are read, the first ones")
    concurrency: int = Field(64, ge=1, description="scripts being read at once")


def judge_labels(
    settings: LabelJudgeSettings, scripts: Sequence[Script], engine: Engine | None = None
) -> dict[str, Any]:
    """For `emotion` and `topic`: `n`, `agreed`, `chance`, `named` and per label `n` and `agreed`.

    `unread` counts answers that named no label, by reason. Raises EngineDead.
    """
    labels = {kind: sorted({getattr(s.scene, kind) for s in scripts}) for kind in KINDS}
    named: list[dict[str, str] | str] = ["unread"] * len(scripts)
    asyncio.run(_read_all(settings, scripts, named, labels, engine or settings.engine))
    figures = {
        kind: _agreement(kind, scripts, [n[kind] if isinstance(n, dict) else None for n in named])
        for kind in KINDS
    }
    unread = Counter(n for n in named if isinstance(n, str))
    return {**figures, "unread": dict(sorted(unread.items()))}


async def _read_all(
    settings: LabelJudgeSettings,
    scripts: Sequence[Script],
    named: list[dict[str, str] | str],
    labels: Mapping[str, Sequence[str]],
    engine: Engine | EngineSpec,
) -> None:
    sampling = Sampling(max_tokens=48, temperature=0, schema=answer_schema(labels))
    async with AsyncExitStack() as stack:
        opened = (await open_engines(stack, {"assistant": engine}))["assistant"]
        with track("judge", len(scripts), "scripts") as bar:
            todo = iter(list(enumerate(scripts)))

            async def work(todo: Iterator[tuple[int, Script]], bar: Track) -> None:
                for place, script in todo:
                    asked = _asked(script, labels, settings.words)
                    named[place] = await _named(opened, asked, sampling, labels)
                    bar.advance()

            workers = [work(todo, bar) for _ in range(settings.concurrency)]
            await all_or_first_error([asyncio.create_task(worker) for worker in workers])


async def _named(
    engine: Engine, asked: list[Message], sampling: Sampling, labels: Mapping[str, Sequence[str]]
) -> dict[str, str] | str:
    """The labels of one answer, or why it has none."""
    try:
        answer = json.loads((await engine.complete(asked, sampling)).text)
    except DeterministicError as error:
        return error.reason
    except ValueError:
        return "not_json"
    known = isinstance(answer, dict) and all(answer.get(k) in labels[k] for k in KINDS)
    return {k: answer[k] for k in KINDS} if known else "no_label"


def answer_schema(labels: Mapping[str, Sequence[str]]) -> str:
    """A JSON schema that allows one label of each list and nothing else."""
    properties = {kind: {"type": "string", "enum": list(labels[kind])} for kind in KINDS}
    table = {"type": "object", "properties": properties, "required": list(KINDS)}
    return json.dumps(table | {"additionalProperties": False})


def _asked(script: Script, labels: Mapping[str, Sequence[str]], words: int) -> list[Message]:
    said = "\n".join(f"{u.speaker}: {u.content}" for u in script.spoken())
    lists = "\n".join(f"{kind}: {', '.join(labels[kind])}" for kind in KINDS)
    task = f"How does {script.main} feel, and what is it about? Name one of each as JSON.\n{lists}"
    return [Message("user", f"{' '.join(said.split()[:words])}\n\n{task}")]


def _agreement(kind: str, scripts: Sequence[Script], named: Sequence[str | None]) -> dict[str, Any]:
    asked = [str(getattr(s.scene, kind)) for s in scripts]
    right = Counter(a for a, n in zip(asked, named, strict=True) if a == n)
    wanted, given, total = Counter(asked), Counter(n for n in named if n), max(len(asked), 1)
    chance = sum(wanted[label] * given[label] for label in wanted) / total**2
    return {
        "n": len(asked),
        "agreed": round(right.total() / total, 4),
        "chance": round(chance, 4),
        "named": len(given),
        "labels": {
            label: {"n": wanted[label], "agreed": round(right[label] / wanted[label], 4)}
            for label in sorted(wanted)
        },
    }
