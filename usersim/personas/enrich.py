"""Lets an engine write what the tables only hint at, under a JSON schema; the facts stay ours.

What an engine says of a person goes through the same checks as what somebody typed. An answer that
is not whole JSON, or breaks a rule, is asked for again; when the attempts are used up the person
stays as the tables made them, and the last answer is quarantined with its reason.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError

from usersim.conversation import Message, Rejection
from usersim.engine import Completion, Engine, Sampling
from usersim.engines import EngineSpec
from usersim.errors import DeterministicError, TransientError
from usersim.files import fingerprint
from usersim.personas.prose import to_prose
from usersim.personas.schema import Line, Persona
from usersim.plan import SamplingSettings
from usersim.progress import Track, track
from usersim.settings import Settings
from usersim.simulate import all_or_first_error, open_engines
from usersim.talk import EXHAUSTED

STAGE = "enrich"
LONGEST = 120  # characters of one line: the grammar ends it there


class EnrichSettings(Settings):
    """How people are enriched."""

    engine: EngineSpec = Field(EngineSpec(), description="who writes")
    sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=320, temperature=0.8), description="how it is drawn"
    )
    attempts: int = Field(3, ge=1, description="answers asked for before a person is left alone")
    concurrency: int = Field(64, ge=1, description="people under way at once")
    seed: int = Field(7, ge=0, description="of the sampling")


class Portrait(Settings):
    """What an engine may write of a person."""

    personality: Line = Field(max_length=LONGEST, description="what it is like to be with them")
    family: Line = Field(max_length=LONGEST, description="parents, partner, children")
    relationships: Line = Field(max_length=LONGEST, description="friends, colleagues, rivals")
    living: Line = Field(max_length=LONGEST, description="home and circumstances")
    community: Line = Field(max_length=LONGEST, description="the group that they belong to")

    def into(self, persona: Persona) -> Persona:
        """The persona with these lines in place of the tables'."""
        written = self.model_dump()
        personal = persona.personal.model_copy(update={"personality": written.pop("personality")})
        social = persona.social.model_copy(update=written)
        return persona.model_copy(update={"personal": personal, "social": social})


@dataclass(slots=True)
class Enriched:
    """The people, enriched or as they were, and what was refused."""

    personas: list[Persona]
    rejections: list[Rejection] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Answers that were asked for again or quarantined, by reason."""

    def figures(self) -> dict[str, Any]:
        """How many were enriched, and why the others were not."""
        return {
            "personas": len(self.personas),
            "enriched": len(self.personas) - len(self.rejections),
            "quarantined": dict(sorted(Counter(r.reason for r in self.rejections).items())),
            "answers_refused": dict(sorted(self.refused.items())),
        }


def enrich(
    settings: EnrichSettings, personas: Sequence[Persona], engine: Engine | None = None
) -> Enriched:
    """The people with an engine's lines, in their order. Raises EngineDead when it is gone."""
    result = Enriched(list(personas))
    asyncio.run(_enrich_all(settings, result, engine or settings.engine))
    result.rejections.sort(key=lambda r: r.id)
    return result


async def _enrich_all(
    settings: EnrichSettings, result: Enriched, engine: Engine | EngineSpec
) -> None:
    async with AsyncExitStack() as stack:
        opened = (await open_engines(stack, {"assistant": engine}))["assistant"]
        with track("enrich", len(result.personas), "personas") as bar:
            todo = iter(list(enumerate(result.personas)))
            workers = [
                _work(settings, opened, result, todo, bar) for _ in range(settings.concurrency)
            ]
            await all_or_first_error([asyncio.create_task(worker) for worker in workers])


async def _work(
    settings: EnrichSettings,
    engine: Engine,
    result: Enriched,
    todo: Iterator[tuple[int, Persona]],
    bar: Track,
) -> None:
    for place, persona in todo:
        result.personas[place] = await _one(settings, engine, persona, result)
        bar.advance()


async def _one(
    settings: EnrichSettings, engine: Engine, persona: Persona, result: Enriched
) -> Persona:
    reason, text = "", ""
    for attempt in range(settings.attempts):
        seed = int(fingerprint([settings.seed, persona.id, attempt]), 16) >> 33
        try:
            made = await engine.complete(_asked(persona), _sampling(settings, seed))
        except DeterministicError as error:
            reason, text = error.reason, str(error)
            break
        except TransientError as error:
            reason, text = EXHAUSTED, str(error)
            result.refused[reason] += 1
            continue
        reason, text = why_not(made), made.text
        if not reason:
            return Portrait.model_validate_json(made.text).into(persona)
        result.refused[reason] += 1
    result.rejections.append(Rejection(persona.id, STAGE, reason, "left as it was", text))
    return persona


def why_not(made: Completion) -> str:
    """Why an answer is no portrait: `cut_off`, `not_json`, `breaks_schema`; "" when it is one."""
    try:
        Portrait.model_validate(json.loads(made.text))
    except ValidationError:
        return "breaks_schema"
    except ValueError:
        return "cut_off" if made.finish_reason == "length" else "not_json"
    return ""


def _sampling(settings: EnrichSettings, seed: int) -> Sampling:
    drawn = settings.sampling.drawn(seed)
    return Sampling(
        max_tokens=drawn.max_tokens,
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        repetition_penalty=drawn.repetition_penalty,
        seed=seed,
        schema=portrait_schema(),
    )


def portrait_schema() -> str:
    """The JSON schema of an answer, as engines take it."""
    table = Portrait.model_json_schema()
    for name in table["properties"]:
        table["properties"][name] |= {"minLength": 8, "maxLength": LONGEST}
    return json.dumps(table)


def _asked(persona: Persona) -> list[Message]:
    left_out = ("social", "style", "language", "personal.personality")
    return [
        Message("system", "You invent believable people. Answer with the JSON object only."),
        Message(
            "user",
            "Write about this person, in the third person, one short line for each key:"
            f" {', '.join(Portrait.model_fields)}.\n{to_prose(persona, left_out)}",
        ),
    ]
