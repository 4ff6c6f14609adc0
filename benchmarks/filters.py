"""How right the filters are, on turns marked by hand, and how fast: `python -m benchmarks.filters`.

The marked turns (benchmarks/labelled_turns.jsonl) are simulated ones with their text, turns of the
embedded ShareGPT conversations by id and position only, and our own words. A mark names what is
wrong with a turn; each filter is asked about every turn, in a small conversation around it.

    --peer-python PATH   an interpreter with datatrove[processing], to time its filters beside ours
    --show               every turn in which a filter and a mark disagree
    --by-filter          what each part of the chain costs, with and without the first look
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.filter_times import by_filter, plainly, printed, seconds
from benchmarks.machine import machine
from pipelines.filters import FilterSettings, tags_of
from pipelines.judging import Judge
from pipelines.witnesses import LanguageWitness
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.sources import Draft, Source, SourceSettings

MARKED = Path(__file__).with_name("labelled_turns.jsonl")
PEER = Path(__file__).with_name("filters_peer.py")
STRICT = FilterSettings(encoding="drop", personal_data="drop")
ROUNDS, CONVERSATIONS = 5, 1000

FOUND_BY = {
    "template_leak": ("template_leak",),
    "reasoning_leak": ("reasoning_leak",),
    "transcript": ("transcript",),
    "user_answers": ("user_answers",),
    "assistant_asks": ("assistant_asks",),
    "echo": ("echo",),
    "self_naming": ("self_naming",),
    "refusal": ("refusal",),
    "repetition": ("repetitive_turn",),
    "truncated": ("maybe_truncated",),
    "encoding_damage": ("encoding_damage",),
    "personal": ("personal",),
    "foreign_language": ("foreign_language",),
}
"""Of each mark the reasons that find it; `maybe_truncated` is a tag, judged without `cut_turns`."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A turn, and what is wrong with it."""

    source: str
    role: str
    text: str
    before: str
    labels: frozenset[str]

    def conversation(self) -> Conversation:
        """A small conversation around the turn."""
        if self.role == "assistant":
            pair = (Message("user", self.before), Message("assistant", self.text))
            return Conversation(id="marked", messages=pair)
        opening = (Message("user", "hello there"), Message("assistant", "Good day."))
        turn = (Message("user", self.text), Message("assistant", "All right, as you like."))
        return Conversation(id="marked", messages=(*opening, *turn))


def drafts() -> dict[str, Draft]:
    """The embedded conversations as they were read, by id."""
    return {d.id: d for d in Source(SourceSettings()) if isinstance(d, Draft)}


def marked_turns(known: dict[str, Draft]) -> Iterator[Marked]:
    """Every marked turn with its text."""
    for line in MARKED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text, before = row.get("text"), row.get("before")
        if row["source"] == "sharegpt":  # what stood before it is another turn, with its own faults
            text = known[row["id"]].messages[row["turn"]].content
        before = before or "hello there, what is a good name for a boat"
        yield Marked(row["source"], row["role"], text, before, frozenset(row["labels"]))


def accuracy(turns: list[Marked], show: bool) -> dict[str, dict[str, Any]]:
    """For each mark: turns that bear it, and the filters' precision and recall."""
    judge = Judge(STRICT, [LanguageWitness()])
    judged = judge.judge([turn.conversation() for turn in turns])
    table = {}
    for mark, reasons in FOUND_BY.items():
        counts: Counter[str] = Counter()
        for turn, judgement in zip(turns, judged, strict=True):
            found = not set(reasons).isdisjoint([*judgement.failed, *tags_of(turn.conversation())])
            applies = mark != "truncated" or turn.role == "assistant"
            kind = ("hit" if found else "missed") if mark in turn.labels else "false alarm"
            if applies and (found or mark in turn.labels):
                counts[kind] += 1
                if show and kind != "hit":
                    print(f"{kind:12} {mark:18} {turn.source:10} {turn.text[:110]!r}")
        table[mark] = _figures(counts)
    return table


def _figures(counts: Counter[str]) -> dict[str, Any]:
    hits, missed, false = counts["hit"], counts["missed"], counts["false alarm"]
    return {
        "marked": hits + missed,
        "found": hits + false,
        "precision": round(hits / (hits + false), 3) if hits + false else None,
        "recall": round(hits / (hits + missed), 3) if hits + missed else None,
    }


def conversations(known: dict[str, Draft], number: int) -> list[Conversation]:
    """Conversations of the embedded corpus, one a record, in the order of their ids' hashes."""
    found = []
    for draft in sorted(known.values(), key=lambda d: hash_of(d.id)):
        messages = (
            draft.messages[1:]
            if draft.messages[:1] and draft.messages[0].role == ("assistant")
            else draft.messages
        )
        try:
            found.append(Conversation(id=draft.id, messages=messages))
        except InputError:
            continue
        if len(found) == number:
            break
    return found


def hash_of(text: str) -> int:
    """A stable order that means nothing."""
    from usersim.surface import stable_hash

    return stable_hash(text)


def peer_rates(python: str, sample: list[Conversation]) -> dict[str, float]:
    """Conversations per CPU second of each filter of the peer; empty when it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        texts = ("\n".join(m.content for m in c.messages) for c in sample)
        path.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        done = subprocess.run(
            [python, str(PEER), str(path)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        print(f"peer: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--by-filter", action="store_true")
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    chosen = parser.parse_args()
    known = drafts()
    turns = list(marked_turns(known))
    marked = len(turns)
    table = accuracy(turns, chosen.show)
    print(f"{len(turns)} turns marked by hand: {dict(Counter(t.source for t in turns))}\n")
    print(f"{'mark':18} {'marked':>6} {'found':>6} {'precision':>9} {'recall':>7}")
    for mark, row in table.items():
        shown = " ".join(f"{'-' if v is None else v:>8}" for v in row.values())
        print(f"{mark:18}{shown}")
    sample = conversations(known, chosen.conversations)
    del known, turns  # curation does not hold a corpus while it judges a shard
    witness = LanguageWitness()
    judge = Judge(FilterSettings(), [witness])
    judge.judge(sample[:50])
    ours, plain, peers = [], [], []
    for _ in range(ROUNDS if not chosen.peer_python else 3):
        ours.append(len(sample) / seconds(lambda: judge.judge(sample)))
        plain.append(len(sample) / seconds(lambda: plainly(sample, judge.settings, witness)))
        if chosen.peer_python:
            peers.append(peer_rates(chosen.peer_python, sample))
    peer = {k: statistics.median(p[k] for p in peers if p) for k in (peers[0] if peers else {})}
    size = statistics.mean(sum(len(m.content) for m in c.messages) for c in sample)
    rate = statistics.median(ours)
    print(f"\nthe whole default chain: {rate:,.0f} conversations/s/core of {size:,.0f} characters")
    print(f"without the first look: {statistics.median(plain):,.0f}")
    for name, value in peer.items():
        print(f"{name:40} {value:,.0f}")
    costs = by_filter(sample) if chosen.by_filter else {}
    if costs:
        print(printed(costs))
    print(json.dumps({
        "benchmark": "filters", "marked_turns": marked, "accuracy": table,
        "conversations_per_s_per_core": round(rate), "all_rounds": [round(r) for r in ours],
        "mean_characters": round(size), "peer": peer,
        "plain_conversations_per_s_per_core": round(statistics.median(plain)),
        "us_by_filter": costs, "machine": machine(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
