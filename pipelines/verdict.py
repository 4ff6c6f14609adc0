"""Is this corpus good? The first screen of the report and of the dashboard: one line, four answers.

Written for somebody who has never seen the project: an answer in a word or a figure, and one
sentence that says what it rests on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import findings
from pipelines.charts import plain_words, thousands
from pipelines.licensing import DEMANDS, normal
from pipelines.run_view import RunView
from usersim.progress import duration

SHOWN_REASONS = 4
NOT_KNOWN = "not known yet"

IN_WORDS = {
    "assistant_asks": "assistants that talk like the user",
    "benchmark": "with benchmark questions",
    "blank_turn": "with a blank turn",
    "contaminated": "with benchmark questions",
    "duplicate_id": "read twice",
    "echo": "that only echo what was said",
    "empty_conversation": "empty",
    "encoding_damage": "with broken characters",
    "engine_error": "ended by an error",
    "error": "ended by an error",
    "exact_duplicate": "word for word another one",
    "foreign_language": "in another language",
    "goodbye_loop": "that cannot stop saying goodbye",
    "length": "too short or too long",
    "low_judge_score": "rated low by the judge",
    "low_quality": "of low quality",
    "marked_bad": "marked bad by a person",
    "memorised": "that repeat people it learned from",
    "near_duplicate_conversation": "nearly another one",
    "near_duplicate_dialogue": "nearly another one",
    "near_duplicate_first_round": "beginning nearly as another one",
    "near_duplicate_opener": "beginning nearly as another one",
    "no_answer": "without an answer",
    "no_opening": "without a beginning",
    "not_json": "unreadable",
    "other_language": "in another language",
    "opener_cluster": "of which many begin alike",
    "intent_cap": "of which many want the same",
    "persona_cap": "of which many are the same person's",
    "round_balance": "of a length that people have less often",
    "semantic_duplicate": "the same in other words",
    "personal": "with personal data",
    "prompt_template": "made from a prompt template",
    "reasoning_leak": "showing hidden reasoning",
    "refusal": "with a refused answer",
    "repeated_turn": "where a turn is said again",
    "repetitive_turn": "with a turn that goes in circles",
    "same_opener": "beginning as another one",
    "search_template": "made by a search tool",
    "self_naming": "where somebody says to be an AI",
    "similar_opener": "beginning nearly as another one",
    "similar_user_side": "nearly another one",
    "slur": "with slurs",
    "tellable": "easiest to tell from people's",
    "template_leak": "showing the chat template",
    "too_long": "too long",
    "toxic": "toxic",
    "transcript": "where one side writes both",
    "truncated": "with an answer broken off",
    "truncated_json": "cut off in the file",
    "unknown_language": "in no language that is known",
    "unscored": "that could not be scored",
    "user_answers": "users that talk like the assistant",
}
"""What was wrong with conversations, by reason, to be read after a number."""


GATE_IN_WORDS = {
    "contaminated": "benchmark questions",
    "kept share": "share kept",
    "memorised": "words of training people",
    "memorised openers": "openers of training people",
}
"""The gate's figures by their names there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, its answer in a word or a figure, and what the answer rests on."""

    question: str
    short: str
    beside: str = ""
    """What belongs to the short answer, in small."""
    told: str = ""
    good: bool | None = None
    """Whether that is as one would wish; None where it is neither."""
    verb: str = ""
    """The command that brings the answer, where it is not known yet."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first screen."""

    line: str
    good: bool | None
    answers: tuple[Answer, ...]


def verdict(view: RunView, surface: Mapping[str, Any] | None) -> Verdict:
    """What a run's figures say of its corpus; `surface` as `usersim.surface.compare` returns it."""
    gate = findings.gate(view)
    answers = (_how_many(view), _like_people(surface), _thrown_away(view), _publish(view, gate))
    line, good = _line(gate, answers[1].short)
    return Verdict(line, good, answers)


def _line(gate: findings.Gate | None, likeness: str) -> tuple[str, bool | None]:
    if gate is None:
        return f"{NOT_KNOWN.capitalize()}: nothing was curated so far.", None
    if gate.failed:
        failed, of = len(gate.failed), len(gate.bounds)
        return f"No: {failed} of the {of} bounds of its gate do not hold.", False
    measured = sum(bound.value is not None for bound in gate.bounds)
    unasked = len(gate.bounds) - measured
    held = f"all {measured} bounds of its gate hold" + (
        f", {unasked} not looked at" * bool(unasked)
    )
    like = {
        "yes": f"Yes: {held}, and its users are like people.",
        "in part": f"Clean, and in part like people's: {held}.",
        "no": f"Clean, but not like people's: {held}.",
    }
    return like.get(likeness, f"Clean: {held}."), True if likeness == "yes" else None


def _how_many(view: RunView) -> Answer:
    question = "How many conversations?"
    made, kept = view.number("simulate", "conversations"), view.number("curate", "kept")
    made = len(view.simulated) if made is None and view.simulated else made
    parts = []
    if (rounds := view.number("simulate", "rounds_mean")) is not None:
        parts.append(f"{thousands(rounds)} rounds a conversation on average")
    turns = sum(len(c.user_turns) for c in view.kept or view.simulated)
    if turns and not view.first_only:  # of the first of them the number would say nothing
        parts.append(f"{thousands(turns)} turns of users")
    if seconds := sum(view.counts("timing").values()):
        cores = view.number("machine", "cores")
        parts.append(
            f"made in {duration(seconds)}" + (f" on {thousands(cores)} cores" if cores else "")
        )
    told = _sentence(", ".join(parts))
    if kept is not None:
        beside = "kept" if made is None else f"kept of {thousands(made)} simulated"
        return Answer(question, thousands(kept), beside, told)
    if made is not None:
        return Answer(question, thousands(made), "simulated, not curated yet", told, verb="curate")
    return Answer(question, "none yet", verb="simulate")


def _like_people(surface: Mapping[str, Any] | None) -> Answer:
    question = "Are they like people's?"
    likeness, distances = findings.likeness(surface)
    short = likeness.partition(":")[0]
    known = [row for row in distances if row.within is not None]
    if not known:
        return Answer(question, NOT_KNOWN, verb="report")
    near = sum(bool(row.within) for row in known)
    told = (
        f"In {near} of {len(known)} measures no farther from real people than people are from each"
        " other."
    )
    far = [r for r in known if not r.within and r.value is not None and r.floor]
    if far:
        worst = max(far, key=lambda row: (row.value or 0) / (row.floor or 1))
        told += f" Farthest: {worst.label}, {worst.verdict}."
    return Answer(question, short, "", told, {"yes": True, "no": False}.get(short))


def _thrown_away(view: RunView) -> Answer:
    question = "Thrown away, and why?"
    _, stages = findings.funnels(view)
    if not view.at("curate"):
        return Answer(question, NOT_KNOWN, verb="curate")
    lost = findings.lost_by_reason(stages)
    went_in = next((s["in"] for s in stages), 0)
    share = f" ({lost.total() / went_in:.0%})" if went_in else ""
    beside = f"of {thousands(went_in)}{share}" if went_in else ""
    return Answer(question, thousands(lost.total()), beside, reasons_told(lost.most_common()))


def reasons_told(lost: Sequence[tuple[str, float]], shown: int = SHOWN_REASONS) -> str:
    """The most frequent reasons in plain words, and how many there were for others."""
    if not lost:
        return "Nothing."
    parts = [f"{thousands(n)} {in_words(reason)}" for reason, n in lost[:shown]]
    if rest := sum(n for _, n in lost[shown:]):
        parts.append(f"{thousands(rest)} for other reasons")
    return ", ".join(parts) + "."


def in_words(reason: str) -> str:
    """What was wrong, to be read after a number; a reason that has no such words as it is."""
    return IN_WORDS.get(reason) or plain_words(reason)


def _publish(view: RunView, gate: findings.Gate | None) -> Answer:
    question = "May I publish it?"
    licensed, why = findings.may_publish(view)
    short = findings.answer(licensed, gate)
    ledger = findings.ledger(view)
    if not ledger:
        return Answer(question, NOT_KNOWN, verb="simulate")
    if short != licensed and gate is not None:
        told = f"{len(gate.failed)} of the {len(gate.bounds)} bounds of its gate do not hold."
    elif short.startswith("yes"):
        told = "Every row's license allows it."
    elif unknown := sorted(
        {e.source or "rows" for e in ledger if normal(e.license) not in DEMANDS}
    ):
        told = f"The license of {', '.join(unknown)} is not known. If you may publish it, say why."
    else:
        told = _sentence(why.partition("\n")[0])
    return Answer(question, short, "", told, short.startswith("yes"))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""
