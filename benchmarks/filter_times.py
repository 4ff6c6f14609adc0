"""What each filter costs: microseconds of CPU time, asked always and asked when it is worth it."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.filters import PLACEHOLDER, REASONS, RULES, FilterSettings, judge, tags_of
from pipelines.first_look import FirstLook
from pipelines.judging import Judge
from pipelines.mending import MENDED, mended
from pipelines.witnesses import LanguageWitness
from usersim.conversation import Conversation

ROUNDS = 3
EVERY = frozenset({*REASONS, PLACEHOLDER})


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def plainly(
    sample: Sequence[Conversation], rules: FilterSettings, witness: LanguageWitness
) -> None:
    """The whole chain without a first look: every rule on every conversation."""
    made = [mended(conversation, rules)[0] for conversation in sample]
    witness.testify(made)
    for conversation in made:
        judge(conversation, rules)
        tags_of(conversation, rules)


def by_filter(sample: Sequence[Conversation]) -> dict[str, dict[str, float]]:
    """Of each part of the default chain: `plain` and `now`, microseconds, and `asked`, a share.

    Medians of interleaved rounds. A part that is never spared has no `plain`.
    """
    rules, witness = FilterSettings(), LanguageWitness()
    look, judging = FirstLook(rules), Judge(rules, [witness])
    asked = look.ask(sample)
    worth = {name: [c for c, a in zip(sample, asked, strict=True) if name in a] for name in EVERY}
    broken = [c for c, a in zip(sample, asked, strict=True) if not MENDED.isdisjoint(a)]

    def rule(name: str, given: Sequence[Conversation]) -> Callable[[], Any]:
        return lambda: [RULES[name](c, rules) for c in given]

    plain: dict[str, Callable[[], Any]] = {name: rule(name, sample) for name in RULES}
    now: dict[str, Callable[[], Any]] = {name: rule(name, worth[name]) for name in RULES}
    plain["mending"] = lambda: [mended(c, rules) for c in sample]
    now["mending"] = lambda: [mended(c, rules) for c in broken]
    plain["tags"] = lambda: [tags_of(c, rules) for c in sample]
    now["tags"] = lambda: [tags_of(c, rules, a) for c, a in zip(sample, asked, strict=True)]
    now["the first look"] = lambda: look.ask(sample)
    now["language"] = lambda: witness.testify(sample)
    plain["the whole chain"] = lambda: plainly(sample, rules, witness)
    now["the whole chain"] = lambda: judging.judge(sample)
    spent: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for way, parts in (("plain", plain), ("now", now)):
            for name, work in parts.items():
                spent.setdefault((name, way), []).append(seconds(work) / len(sample) * 1e6)
    table: dict[str, dict[str, float]] = {name: {} for name in now}
    for (name, way), rounds in spent.items():
        table[name][way] = round(statistics.median(rounds), 1)
    for name in RULES:
        table[name]["asked"] = round(len(worth[name]) / len(sample), 3)
    table["mending"]["asked"] = round(len(broken) / len(sample), 3)
    return table


def printed(table: dict[str, dict[str, float]]) -> str:
    """The table in Markdown, the dearest parts first."""
    rows = sorted(table.items(), key=lambda row: -row[1]["now"])
    lines = ["| part | asked of | plain, µs | now, µs |", "|---|--:|--:|--:|"]
    for name, row in rows:
        share = f"{row['asked']:.1%}" if "asked" in row else "all"
        lines.append(f"| {name} | {share} | {row.get('plain', '-')} | {row['now']} |")
    return "\n".join(lines)
