"""Raw and curated side by side: did curation bring the corpus nearer to people, or only thin it?

    realchat before-after runs/demo

Shares are those of the `curate` stage (metrics.json). Beside them the two-sample test: a classifier
learns to tell simulated user turns from held-out people's, 0.5 is chance; both sides are compared
at the same size, because a classifier learns more from more. Written to before_after.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.gate import at, figures_for_gate
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.fidelity.two_sample import TwoSampleSettings, two_sample
from usersim.files import read_conversations, write_json
from usersim.surface import compare

FILE = "before_after.json"
SIDES = ("before", "after")
TEST = TwoSampleSettings(classifiers=("linear",), words=0)
DISTANCES = ("rounds_to_cap", "words_first", "words_later")


def before_after(run: Path) -> dict[str, Any]:
    """The table of a run: for `before` and `after` its shares, AUCs and distances, by name.

    Also written to before_after.json. Raises InputError for a run that was not curated, or
    without held-out people.
    """
    shares = at(figures_for_gate(run), "curate.before_after")
    if shares is None:
        raise InputError(f"{run} was not curated yet: realchat curate --redo --run {run}")
    people = read_conversations(run / "people" / "test.parquet")
    found = {"before": _all(run / "conversations"), "after": _all(run / "curated")}
    size = min(len(side) for side in found.values())
    table: dict[str, Any] = {side: shares[side] | _fidelity(found[side], people) for side in SIDES}
    table |= {"people": len(people), "smaller_side": size}
    write_json(run / FILE, table)
    return table


def _all(folder: Path) -> list[Conversation]:
    return [c for p in sorted(folder.glob("part-*.parquet")) for c in read_conversations(p)]


def _fidelity(simulated: Sequence[Conversation], people: Sequence[Conversation]) -> dict[str, Any]:
    told, distances = two_sample(people, simulated, TEST), compare(simulated, people)["distance"]
    found: dict[str, Any] = {}
    for part in ("first", "later"):
        figures = told[part]["linear"] or {}
        found[f"auc_{part}"] = figures.get("auc_at_floor_size")
        found[f"auc_{part}_floor"] = figures.get("floor")
        found[f"auc_{part}_all"] = figures.get("auc")
    return found | {name: distances[name]["value"] for name in DISTANCES}


ROWS = {
    "conversations": "conversations",
    "duplicates": "duplicates (user sides alike, Jaccard 0.5)",
    "role_confusion": "role confusion, either side",
    "repetition": "repetition",
    "refusals": "refusals, self-naming",
    "foreign_language": "foreign language",
    "encoding_damage": "encoding damage",
    "personal_data": "personal data",
    "contaminated": "benchmark questions",
    "memorised": "repeats training people",
    "auc_first": "AUC against people, first turns",
    "auc_later": "AUC against people, later turns",
    "rounds_to_cap": "rounds against people (bit)",
    "words_first": "words against people, first turns",
    "words_later": "words against people, later turns",
}


def markdown(table: dict[str, Any]) -> str:
    """The table as Markdown; shares in per cent."""
    lines = ["| | raw | curated |", "|---|--:|--:|"]
    for key, label in ROWS.items():
        cells = [_cell(key, table[side].get(key)) for side in SIDES]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} |")
    floors = [table["after"].get(f"auc_{part}_floor") for part in ("first", "later")]
    said = " and ".join("unknown" if f is None else f"{f:.3f}" for f in floors)
    return "\n".join([*lines, "", f"AUC between halves of the {table['people']} people: {said}."])


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "conversations":
        return f"{value:,}"
    if key.startswith(("auc", "words", "rounds")):
        return f"{value:.3f}"
    return f"{100 * value:.1f} %"
