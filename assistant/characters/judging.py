"""A judge reads interviews: five dimensions, 1 to 7, each with the evidence it is judged against.

Any engine can judge. An answer is a table that is checked, never prose that is searched for digits
(DC8); what does not fit is counted and listed, never a missing number. Every reply of an interview
is judged (DC6), with paragraphs found in the whole story (DC7).
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assistant.characters.evidence import evidence
from assistant.characters.interviews import Interview, Said
from assistant.characters.notebook import Notebook
from assistant.characters.profile import Profile
from assistant.characters.structured import Form, Refused, read_answer, schema_of
from usersim.conversation import Message, Rejection
from usersim.engine import Completion, Engine, Sampling, all_or_none
from usersim.errors import DeterministicError, EngineDead, TransientError, WorldError
from usersim.files import fingerprint, write_text
from usersim.progress import track
from usersim.settings import Settings

Dimension = Literal["memorisation", "values", "personality", "hallucination", "stability"]

ASKS: dict[Dimension, str] = {
    "memorisation": "Are the facts in the reply those of the notes? 7: all right and exact."
    " 1: wrong, or none where the question wants one.",
    "values": "Does the reply hold what this person believes and cares for? 7: entirely. 1: the"
    " opposite.",
    "personality": "Does the reply sound like this person, in tone and manner? 7: unmistakably."
    " 1: like somebody else, or like a machine.",
    "hallucination": "Does the reply stay inside what this person can know? 7: nothing is beyond"
    " their time, place and acquaintance. 1: it speaks of what they cannot know or never had.",
    "stability": "Is the speaker of this reply the same person as in the turns before? 7: entirely."
    " 1: out of character.",
}


class Verdict(Form):
    """What a judge answers."""

    reason: str = Field(min_length=1, max_length=120, description="why, in one sentence")
    score: Literal[1, 2, 3, 4, 5, 6, 7] = Field(description="1 is worst, 7 is best")


class JudgeSettings(Settings):
    """How interviews are judged."""

    dimensions: tuple[Dimension, ...] = Field(
        ("memorisation", "values", "personality", "hallucination"),
        description="of every reply; from the second on stability is judged too",
    )
    repeats: int = Field(2, ge=1, description="times that one reply is judged, each draw its own")
    paragraphs: int = Field(4, ge=1, description="paragraphs of evidence, found in the whole story")
    max_tokens: int = Field(
        160, ge=64, description="tokens of a verdict; its reason has 120 characters at most"
    )
    whole_only: bool = Field(
        True, description="leave out replies that the token limit broke off; they are counted"
    )
    temperature: float = Field(0.3, ge=0.0, le=2.0, description="0 makes repeats the same")
    concurrency: int = Field(32, ge=1, description="verdicts at once")


@dataclass(frozen=True, slots=True)
class Judgement:
    """One verdict on one reply."""

    interview: int
    turn: int
    """Which reply of the interview, from 0."""
    dimension: Dimension
    repeat: int
    judge: str
    score: int
    reason: str
    words: int
    """Of the reply that was judged."""


@dataclass(frozen=True, slots=True)
class _Task:
    interview: int
    turn: int
    dimension: Dimension
    repeat: int
    messages: tuple[Message, ...]
    words: int


async def judge(
    interviews: Sequence[Interview],
    profile: Profile,
    engine: Engine,
    settings: JudgeSettings,
    folder: Path,
) -> tuple[list[Judgement], list[Rejection], dict[str, Any]]:
    """Judgements, answers that were refused with their reasons, and counts that add up.

    Resumable like the interviews, in a notebook that carries the judge's name. Raises WorldError
    when the engine dies.
    """
    tasks = _tasks(interviews, profile, settings)
    shape = settings.model_dump(exclude={"concurrency"})
    plan = fingerprint([shape, [[[asdict(m) for m in t.messages], t.repeat] for t in tasks]])
    name = fingerprint(engine.model)[:8]
    slots = asyncio.Semaphore(settings.concurrency)
    with (
        Notebook(folder / f"judge-{name}.sqlite", {"plan": plan, "judge": engine.model}) as book,
        track(f"judge {engine.model}", len(tasks), "verdicts") as bar,
    ):

        async def asked(number: int, task: _Task) -> Completion | DeterministicError:
            async with slots:
                try:
                    sampling = _sampling(settings, number)
                    return await book.ask((number, task.repeat), engine, task.messages, sampling)
                except DeterministicError as error:
                    return error
                finally:
                    bar.advance()

        try:
            answers = await all_or_none(asked(n, t) for n, t in enumerate(tasks))
        except (EngineDead, TransientError) as error:
            raise WorldError(f"judging stopped: {error}; the same command goes on") from error
        counts = {"asked": book.asked, "remembered": book.remembered}
    kept, refused = _sorted_out(tasks, answers, engine.model)
    assert len(kept) + len(refused) == len(tasks)
    replies = [reply for interview in interviews for reply in interview.replies]
    counts["left_out_cut"] = sum(not _is_judged(reply, settings) for reply in replies)
    return kept, refused, counts | {"wanted": len(tasks), "read": len(kept)}


def _is_judged(reply: Said, settings: JudgeSettings) -> bool:
    """DC9: a reply that was cut is no fair answer to compare."""
    return not settings.whole_only or reply.finish != "length"


def _sorted_out(
    tasks: Sequence[_Task], answers: Sequence[Completion | DeterministicError], name: str
) -> tuple[list[Judgement], list[Rejection]]:
    kept, refused = [], []
    for task, answer in zip(tasks, answers, strict=True):
        place = (task.interview, task.turn, task.dimension, task.repeat)
        where = "/".join(map(str, place))
        if isinstance(answer, DeterministicError):
            refused.append(Rejection(where, "judge", answer.reason, str(answer), ""))
            continue
        verdict = read_answer(answer, Verdict)
        if isinstance(verdict, Refused):
            refused.append(Rejection(where, "judge", verdict.reason, verdict.detail, answer.text))
        else:
            kept.append(Judgement(*place, name, verdict.score, verdict.reason, task.words))
    return kept, refused


def _tasks(
    interviews: Sequence[Interview], profile: Profile, settings: JudgeSettings
) -> list[_Task]:
    """Every reply in every dimension; stability from the second reply on."""
    tasks = []
    for number, interview in enumerate(interviews):
        for turn, reply in enumerate(interview.replies):
            if not _is_judged(reply, settings):
                continue
            dimensions: list[Dimension] = [d for d in settings.dimensions if d != "stability"]
            if turn:
                dimensions.append("stability")
            for dimension in dimensions:
                messages = _question(interview, turn, dimension, profile, settings)
                words = len(reply.text.split())
                tasks += [
                    _Task(number, turn, dimension, repeat, messages, words)
                    for repeat in range(settings.repeats)
                ]
    return tasks


def _question(
    interview: Interview,
    turn: int,
    dimension: Dimension,
    profile: Profile,
    settings: JudgeSettings,
) -> tuple[Message, ...]:
    asked, reply = interview.turns[2 * turn], interview.turns[2 * turn + 1]
    found = evidence(profile, f"{asked.text} {reply.text}", settings.paragraphs)
    notes = "\n".join(f"[{p.id}] {p.text}" for p in found)
    before = ""
    if dimension == "stability":
        earlier = (t.text for t in interview.turns[: 2 * turn] if t.role == "assistant")
        before = "Earlier replies:\n" + "\n".join(f"- {text}" for text in earlier) + "\n\n"
    system = (
        f"You judge how well somebody plays {profile.name}. {ASKS[dimension]}\n"
        'Answer with JSON: {"reason": one sentence, "score": 1 to 7}.'
    )
    text = (
        f"Notes on {profile.name}, who knows of nothing after {profile.last_year}:\n{notes}\n\n"
        f"{before}Question: {asked.text}\nReply: {reply.text or '(nothing)'}"
    )
    return Message("system", system), Message("user", text)


def _sampling(settings: JudgeSettings, number: int) -> Sampling:
    return Sampling(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=number,
        schema=schema_of(Verdict),
    )


def write_judgements(path: Path, judgements: Sequence[Judgement]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(asdict(j), ensure_ascii=False) + "\n" for j in judgements))
