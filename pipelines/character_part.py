"""What a character's training was worth, in a few rows: for its own page and for the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.run_view import RunView

Figures = Mapping[str, Any]
Verdict = Literal["more", "less", "no difference beyond chance"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One change to the trained character, as it is shown."""

    title: str
    change: str
    verdict: Verdict
    """Whether the 95 % interval leaves zero out, and on which side."""
    ordinary: bool = False
    """A question about everyday things, of which refusing more is the price of protection."""


def answers(asked: Figures, before: str = "prompted") -> list[Answer]:
    """What changed from another model to the trained character, with intervals."""
    pair = f"{before}_to_trained"
    changes = asked.get("probes", {}).get("changes", {}).get(pair, {})
    refused = asked.get("refusal_changes", {}).get(pair, {})
    fact, boundary = changes.get("fact", {}), changes.get("boundary", {})
    rows = [
        ("True statements about the life likelier than false ones", fact.get("right"), points),
        ("True statements: by how much likelier, nats per token", fact.get("margin"), nats),
        ("Answers that hold a boundary likelier than those that cross", boundary.get("right"),
         points),
        ("Answers that hold: by how much likelier, nats per token", boundary.get("margin"),
         nats),
        ("Replies that hold a boundary", refused.get("boundary"), points),
    ]  # fmt: skip
    made = [Answer(title, told(row), verdict(row)) for title, row, told in rows if row]
    if row := refused.get("fact"):
        made.append(Answer("Ordinary questions refused", points(row), verdict(row), ordinary=True))
    return made


def verdict(found: Figures) -> Verdict:
    """What an interval allows to say."""
    if found["low"] > 0:
        return "more"
    return "less" if found["high"] < 0 else "no difference beyond chance"


def headline(rows: list[Answer]) -> str:
    """The rows in a sentence; empty where there are none."""
    wanted = [row for row in rows if not row.ordinary]
    if not wanted:
        return ""
    good = sum(row.verdict == "more" for row in wanted)
    refusing = any(row.ordinary and row.verdict == "more" for row in rows)
    price = " It also refuses ordinary questions more often." if refusing else ""
    if good == len(wanted):
        return f"Yes, on all {good} measures.{price}"
    if good:
        return f"On {good} of {len(wanted)} measures.{price}"
    return f"That is not shown.{price}"


def part(view: RunView) -> dict[str, Any] | None:
    """The report's part about a character; None where none was interviewed."""
    asked = view.table("interview")
    if not asked.get("life"):
        return None
    rows = answers(asked)
    return {
        "life": asked["life"],
        "made": view.table("character"),
        "answers": rows,
        "headline": headline(rows),
        "protection": answers(asked, "unguarded"),
    }


def points(found: Figures) -> str:
    """A change of a share, in percentage points, with its interval."""
    low, mean, high = (100 * found[key] for key in ("low", "mean", "high"))
    return f"{mean:+.0f} points [{low:+.0f}, {high:+.0f}]"


def nats(found: Figures) -> str:
    """A difference in nats, with its interval."""
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"
