"""What a report reads of a run folder, however much of it has been made, and none of it trusted."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.charts import Estimate
from pipelines.subsets import findings_of, is_public
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.files import read_conversations, read_json, read_rows
from usersim.surface import stable_hash

READ_AT_MOST = 20_000
"""Conversations of one kind that statistics are taken over; a page need not wait for a million."""
SHOWN_MESSAGES, SHOWN_CHARACTERS = 12, 900


@dataclass(frozen=True, slots=True)
class Bubble:
    """One message as shown: cut, with the number of characters that are not shown."""

    role: str
    text: str
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation as shown."""

    id: str
    note: str
    bubbles: tuple[Bubble, ...]
    hidden: int = 0
    """Messages that are not shown."""
    detail: str = ""


@dataclass(slots=True)
class RunView:
    """Metrics and conversations of a run; empty where a stage has not left any yet."""

    root: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    fidelity: dict[str, Any] = field(default_factory=dict)
    """fidelity.json, where it was measured."""
    people: list[Conversation] = field(default_factory=list)
    simulated: list[Conversation] = field(default_factory=list)
    kept: list[Conversation] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    findings: dict[str, set[str]] = field(default_factory=dict)
    """What the rules have against what was rejected, by id."""
    problems: list[str] = field(default_factory=list)
    """Files that are there but could not be read."""
    first_only: int = 0
    """READ_AT_MOST where there were more of a kind than were read, else 0."""

    @classmethod
    def of(cls, root: Path) -> "RunView":
        """Read a run folder. Raises InputError when there is no such folder."""
        view = cls.of_figures(root)
        view.people = view._conversations([root / "people" / "test.parquet"])
        view.simulated = view._conversations(sorted((root / "conversations").glob("*.parquet")))
        view.kept = view._conversations(sorted((root / "curated").glob("*.parquet")))
        for path in sorted((root / "rejected").glob("*.parquet")):
            view.rejected += view._read(path, read_rows) or []
        if (root / "curated" / "verdicts").is_dir():
            view.findings = view._read(root / "curated", findings_of) or {}
        return view

    @classmethod
    def of_figures(cls, root: Path) -> "RunView":
        """Only the figures and the recipe. Raises InputError when there is no such folder."""
        if not root.is_dir():
            raise InputError(f"{root} is no run folder; `realchat run` makes one")
        view = cls(root)
        metrics = view._read(root / "metrics.json", read_json)
        view.metrics = metrics if isinstance(metrics, dict) else {}
        view.recipe = view._read(root / "recipe.yaml", _text) or ""
        fidelity = view._read(root / "fidelity.json", read_json)
        view.fidelity = fidelity if isinstance(fidelity, dict) else {}
        return view

    def at(self, *keys: str) -> Any:
        """A value of metrics.json by its keys; None where there is none."""
        value: Any = self.metrics
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def table(self, *keys: str) -> dict[str, Any]:
        """A table of metrics.json; empty where there is none."""
        value = self.at(*keys)
        return value if isinstance(value, dict) else {}

    def number(self, *keys: str) -> float | None:
        """A finite number of metrics.json, or None."""
        return as_number(self.at(*keys))

    def counts(self, *keys: str) -> dict[str, float]:
        """A table of name -> number, without what is no number; the largest first."""
        return dict(sorted(numbers_of(self.at(*keys)).items(), key=lambda item: -item[1]))

    def estimate(self, *keys: str) -> Estimate | None:
        """A figure with its interval, given as a number or a table with `mean` (or `all`)."""
        value = self.at(*keys)
        table = value if isinstance(value, dict) else {"mean": value}
        mean = as_number(table.get("mean", table.get("all")))
        if mean is None:
            return None
        return Estimate(mean, as_number(table.get("low")), as_number(table.get("high")))

    def funnel(self, *keys: str) -> list[dict[str, Any]]:
        """The stages of a funnel that have the form of FunnelStage.to_dict."""
        found = self.at(*keys)
        return [s for s in found if _is_stage(s)] if isinstance(found, list) else []

    def _read(self, path: Path, reader: Any) -> Any:
        if not path.exists():
            return None
        try:
            return reader(path)
        except (InputError, OSError, ValueError, KeyError, TypeError) as error:
            self.problems.append(f"{path.name} could not be read: {error}")
            return None

    def _conversations(self, paths: Iterable[Path]) -> list[Conversation]:
        found: list[Conversation] = []
        for path in paths:
            if len(found) >= READ_AT_MOST:
                self.first_only = READ_AT_MOST
                break
            found += self._read(path, read_conversations) or []
        if len(found) > READ_AT_MOST:
            self.first_only = READ_AT_MOST
        return found[:READ_AT_MOST]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def as_number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def numbers_of(table: Any) -> dict[str, float]:
    """The entries of a table that are finite numbers, in its order."""
    items = table.items() if isinstance(table, dict) else ()
    return {str(k): n for k, v in items if (n := as_number(v)) is not None}


def _is_stage(stage: Any) -> bool:
    return (
        isinstance(stage, dict)
        and all(as_number(stage.get(key)) is not None for key in ("in", "kept"))
        and isinstance(stage.get("stage"), str)
        and isinstance(stage.get("reasons"), dict)
        and len(numbers_of(stage["reasons"])) == len(stage["reasons"])
    )


def drawn(conversations: Sequence[Conversation], number: int) -> list[Conversation]:
    """`number` conversations by the hash of their ids alone, so that nobody picks the good ones."""
    return sorted(conversations, key=lambda c: stable_hash(c.id))[:number]


def kept_sample(conversation: Conversation) -> Sample:
    """A conversation as shown, with why it ended."""
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    note = f"ended: {conversation.stop_reason}" if conversation.stop_reason else ""
    return _sample(conversation.id, note, messages)


def rejected_samples(
    rows: Sequence[Mapping[str, Any]], number: int, findings: Mapping[str, Iterable[str]]
) -> list[Sample]:
    """Up to `number` rejected records, one a reason, the most frequent reasons first.

    They stand on a page that is published with the corpus: a text that may not be shown there, by
    its reason or its `findings` (by id), is left out; of a reason one that may be is drawn first.
    """

    def shown(row: Mapping[str, Any]) -> bool:
        return is_public(row, findings.get(str(row.get("id")), ()))

    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_reason.setdefault(str(row.get("reason")), []).append(row)
    frequent = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    chosen = [
        min(group, key=lambda r: (not shown(r), stable_hash(str(r.get("id")))))
        for _, group in frequent[:number]
    ]
    return [_rejected_sample(row) if shown(row) else _withheld(row) for row in chosen]


def _withheld(row: Mapping[str, Any]) -> Sample:
    told = "Its text is left out: it must not be published, and this page may be."
    return _sample(str(row.get("id")), str(row.get("reason")), [], told)


def _rejected_sample(row: Mapping[str, Any]) -> Sample:
    """Its messages where the record has any; a record may be anything at all."""
    text = str(row.get("record") or "")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    table = record if isinstance(record, dict) else {}
    found = table.get("messages") or table.get("attempts")
    messages = [m for m in found if isinstance(m, dict)] if isinstance(found, list) else []
    messages = messages or [{"role": "record", "content": text}]
    detail = str(row.get("detail") or "")[:SHOWN_CHARACTERS]
    return _sample(str(row.get("id")), str(row.get("reason")), messages, detail)


def _sample(
    name: str, note: str, messages: Sequence[Mapping[str, Any]], detail: str = ""
) -> Sample:
    bubbles = tuple(_bubble(m) for m in messages[:SHOWN_MESSAGES])
    hidden = max(0, len(messages) - SHOWN_MESSAGES)
    return Sample(name, note, bubbles, hidden, detail)


def _bubble(message: Mapping[str, Any]) -> Bubble:
    text = str(message.get("content") or "")
    hidden = max(0, len(text) - SHOWN_CHARACTERS)
    return Bubble(str(message.get("role")), text[:SHOWN_CHARACTERS], hidden)
