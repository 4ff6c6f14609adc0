"""Interviews: a character is asked, once or over several rounds; every reply is kept as it came.

The plan is known before anybody speaks: single questions (facts and boundaries, each asked several
times) and conversations that an interviewer goes on with. Nothing is drawn again because it is
bad: what a character says is what is measured, with how it ended.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from assistant.characters.notebook import Notebook
from assistant.characters.profile import Profile
from assistant.characters.protective import boundary_questions
from usersim.conversation import Conversation, Message, Role
from usersim.engine import Engine, Sampling, all_or_none
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError, WorldError
from usersim.files import fingerprint, write_text
from usersim.plan import FORBID_END
from usersim.progress import track
from usersim.settings import Settings
from usersim.surface import turn_statistics

OPENINGS = (
    "Tell me something about your childhood.", "Who mattered most in your life?",
    "What are you proudest of?", "What do you believe in?", "How do your days go?",
    "What was the hardest time for you?", "What do you dislike?", "What did you learn first?",
    "What would you tell a young person?", "What makes you laugh?",
)  # fmt: skip


class InterviewSettings(Settings):
    """How a character is interviewed."""

    repeats: int = Field(2, ge=1, description="times that each single question is asked")
    facts: int = Field(0, ge=0, description="fact questions that are asked; 0: all")
    questions: str = Field(
        "", description="file with questions of your own, asked like the facts: one a line"
    )
    conversations: int = Field(6, ge=0, description="interviews of several rounds")
    rounds: int = Field(4, ge=1, description="rounds of such an interview, at most")
    max_tokens: int = Field(72, ge=1, description="tokens after which a reply is cut")
    temperature: float = Field(0.7, ge=0.0, le=2.0, description="of the replies")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="of the replies")
    concurrency: int = Field(32, ge=1, description="interviews at once")


@dataclass(frozen=True, slots=True)
class Occasion:
    """One planned interview: its first question, and how long it may go on."""

    index: int
    kind: str
    """`fact`, a boundary, `own` of a file, or `open` for one of several rounds."""
    ask: str
    repeat: int = 0
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of an interview. `finish` says how it ended: `stop` or `length`."""

    role: Role
    text: str
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class Interview:
    """One held interview."""

    character: str
    model: str
    interviewer: str
    kind: str
    ask: str
    repeat: int
    ended: str
    """`rounds`, `interviewer_left`, `nothing_said`, or an engine's reason for refusing."""
    turns: tuple[Said, ...]

    @property
    def replies(self) -> list[Said]:
        """What the character said."""
        return [t for t in self.turns if t.role == "assistant"]

    def to_row(self) -> dict[str, Any]:
        """Plain values; `from_row` undoes it."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The interview of a row."""
        return cls(**{**row, "turns": tuple(Said(**t) for t in row["turns"])})


@dataclass(frozen=True, slots=True)
class Sides:
    """Who talks. `system` is what the character is told; the interviewer opens as a user."""

    character: Engine
    system: str
    interviewer: Engine | None = None

    @property
    def interviewer_name(self) -> str:
        """For lineage."""
        return self.interviewer.model if self.interviewer else ""


def planned(profile: Profile, settings: InterviewSettings) -> list[Occasion]:
    """Every interview of a character, in order: the same for every model that is asked.

    Raises InputError for a file of questions that holds none.
    """
    facts = [("fact", p.ask) for p in profile.probes]
    if settings.facts:
        facts = facts[:: max(1, len(facts) // settings.facts)][: settings.facts]
    single = [*facts, *((q.boundary, q.ask) for q in boundary_questions(profile))]
    if settings.questions:
        single += [("own", ask) for ask in read_questions(Path(settings.questions))]
    occasions = [(kind, ask, n, 1) for kind, ask in single for n in range(settings.repeats)]
    for number in range(settings.conversations):
        opening = OPENINGS[number % len(OPENINGS)]
        occasions.append(("open", opening, number // len(OPENINGS), settings.rounds))
    return [Occasion(index, *rest) for index, rest in enumerate(occasions)]


def read_questions(path: Path) -> list[str]:
    """Questions of a file, one a line: plain, numbered, or an object with a `question`.

    Those that are there twice are asked once. Raises InputError.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
        found = [json.loads(x)["question"] if x.startswith("{") else x for x in lines if x]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read questions from {path}: {error}") from error
    asked = (re.sub(r"^\d+[.):]\s*", "", str(question)).strip() for question in found)
    if not (questions := list(dict.fromkeys(filter(None, asked)))):
        raise InputError(f"{path} holds no question: write one a line")
    return questions


async def hold_interviews(
    occasions: Sequence[Occasion],
    sides: Sides,
    settings: InterviewSettings,
    folder: Path,
    character: str,
) -> tuple[list[Interview], dict[str, Any]]:
    """Hold what the folder's notebook lacks; returns all interviews, in order, and figures.

    Raises WorldError when an engine dies: the same call goes on from there. Raises InputError where
    an interview of several rounds has no interviewer, or the notebook is of another plan.
    """
    if sides.interviewer is None and any(o.rounds > 1 for o in occasions):
        raise InputError("interviews of several rounds need an interviewer: name an engine for it")
    draws = settings.model_dump(exclude={"concurrency"})
    plan = fingerprint([[asdict(o) for o in occasions], sides.system, draws])
    names = {"character": sides.character.model, "interviewer": sides.interviewer_name}
    slots = asyncio.Semaphore(settings.concurrency)
    with (
        Notebook(folder / "interviews.sqlite", {"plan": plan, **names}) as notebook,
        track("interviews", len(occasions), "interviews") as bar,
    ):

        async def held(occasion: Occasion) -> Interview:
            async with slots:
                talk = await _held(occasion, sides, settings, notebook, character)
                bar.advance()
                return talk

        try:
            interviews = await all_or_none(map(held, occasions))
        except (EngineDead, TransientError) as error:
            raise WorldError(
                f"the interviews stopped: {error}; every reply so far is kept in {folder}, and the"
                " same command goes on"
            ) from error
        counts = {"asked": notebook.asked, "remembered": notebook.remembered}
    write_interviews(folder / "interviews.jsonl", interviews)
    return interviews, counts | figures(interviews)


async def _held(
    occasion: Occasion,
    sides: Sides,
    settings: InterviewSettings,
    notebook: Notebook,
    character: str,
) -> Interview:
    """One interview, top to bottom. DC5: a round is asked once, and there are only so many."""
    turns = [Said("user", occasion.ask)]
    ended = "rounds"
    try:
        for number in range(occasion.rounds):
            if number:
                turns.append(await _asked(occasion.index, turns, sides, settings, notebook))
                if not turns[-1].text:
                    turns.pop()
                    ended = "interviewer_left"
                    break
            turns.append(await _replied(occasion.index, turns, sides, settings, notebook))
            if not turns[-1].text:
                ended = "nothing_said"
                break
    except DeterministicError as error:
        ended = error.reason
    return Interview(
        character,
        sides.character.model,
        sides.interviewer_name,
        occasion.kind,
        occasion.ask,
        occasion.repeat,
        ended,
        tuple(turns),
    )


async def _replied(
    index: int, turns: Sequence[Said], sides: Sides, settings: InterviewSettings, book: Notebook
) -> Said:
    heard = [Message("system", sides.system), *(Message(t.role, t.text) for t in turns)]
    sampling = _sampling(settings, index, len(turns))
    made = await book.ask((index, len(turns)), sides.character, heard, sampling)
    return Said("assistant", made.text, made.finish_reason)


async def _asked(
    index: int, turns: Sequence[Said], sides: Sides, settings: InterviewSettings, book: Notebook
) -> Said:
    """The interviewer does not know what the character was told. It leaves only after one reply."""
    assert sides.interviewer is not None
    heard = [Message(t.role, t.text) for t in turns]
    sampling = _sampling(settings, index, len(turns), FORBID_END if len(turns) < 3 else 0.0)
    made = await book.ask((index, len(turns)), sides.interviewer, heard, sampling, "user")
    return Said("user", made.text, made.finish_reason)


def _sampling(
    settings: InterviewSettings, index: int, position: int, end_bias: float = 0.0
) -> Sampling:
    seed = int(fingerprint([index, position])[:7], 16)
    return Sampling(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=seed,
        end_bias=end_bias,
    )


def figures(interviews: Sequence[Interview]) -> dict[str, Any]:
    """How many replies, how they ended, and how human the interviewer's own turns look.

    DC9: a reply that the token limit broke off is counted, and can be left out of a comparison.
    DC12: the share of distinct openings and of thanks says what kind of interviewer asked.
    """
    replies = [r for i in interviews for r in i.replies]
    words = [len(r.text.split()) for r in replies]
    later = [t.text for i in interviews for t in i.turns[1:] if t.role == "user"]
    ended: dict[str, int] = {}
    for interview in interviews:
        ended[interview.ended] = ended.get(interview.ended, 0) + 1
    return {
        "interviews": len(interviews),
        "replies": len(replies),
        "cut": sum(r.finish == "length" for r in replies),
        "empty": sum(not r.text for r in replies),
        "words_mean": round(sum(words) / len(words), 2) if words else None,
        "ended": ended,
        "interviewer_turns": turn_statistics(later, len(later)),
    }


def to_conversation(interview: Interview, number: int) -> Conversation:
    """The interview as our record, as far as both sides spoke."""
    messages = tuple(Message(t.role, t.text) for t in interview.turns if t.text)
    return Conversation(
        id=f"{fingerprint([interview.to_row(), number])}",
        messages=messages,
        source="interview",
        user_model=interview.interviewer or None,
        assistant_model=interview.model,
        persona_id=interview.character,
    )


def write_interviews(path: Path, interviews: Sequence[Interview]) -> None:
    """One JSON object a line (DC2: never objects after one another)."""
    lines = (json.dumps(i.to_row(), ensure_ascii=False) for i in interviews)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_interviews(path: Path) -> list[Interview]:
    """The interviews of a file. Raises InputError when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [Interview.from_row(json.loads(line)) for line in lines if line.strip()]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot read interviews from {path}: {error}") from error
