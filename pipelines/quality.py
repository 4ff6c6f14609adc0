"""Quality models: people's turns against simulated ones, or kept answers against rejected ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.files import read_conversations, read_rows, write_json
from usersim.text_scorer import train_scorer

KINDS = ("users", "answers")


def train_quality(run: Path, kind: str, out: Path) -> dict[str, Any]:
    """Train a model on a run's texts; returns its held-out figures, also written beside it.

    `users`: the turns of the people that the simulator learned from against simulated users'.
    `answers`: answers that curation kept against those of conversations that it rejected.
    Raises InputError for another kind, a run without such texts, or too few of them.
    """
    if kind not in KINDS:
        raise InputError(f"{kind!r}: one of {', '.join(KINDS)}")
    if kind == "users":
        good = [t for c in read_conversations(run / "people/train.parquet") for t in c.user_turns]
        bad = [turn for c in _conversations(run / "conversations") for turn in c.user_turns]
    else:
        good = [turn for c in _conversations(run / "curated") for turn in c.assistant_turns]
        bad = list(_rejected_answers(run / "rejected" / "curate.parquet"))
    figures = {"kind": kind, "run": run.name} | train_scorer(good, bad, out)
    write_json(out.with_suffix(".json"), figures)
    return figures


def _conversations(folder: Path) -> Iterator[Conversation]:
    for path in sorted(folder.glob("part-*.parquet")):
        yield from read_conversations(path)


def _rejected_answers(path: Path) -> Iterator[str]:
    """Answers of what the filters rejected; duplicates are no worse than what they repeat."""
    for row in read_rows(path):
        if row["stage"] == "filters":
            messages = json.loads(row["record"]).get("messages") or []
            # A record that was rejected as no conversation may hold anything.
            said = (m for m in messages if isinstance(m, dict) and m.get("role") == "assistant")
            yield from (m["content"] for m in said if isinstance(m.get("content"), str))
