"""Parts of the report that take more than a look at one figure.

What is in the corpus that should not be, the measured fidelity, what all of it cost, and samples
from every stratum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.charts import plain_words
from pipelines.fidelity_rows import FidelityRow, fidelity_rows
from pipelines.run_view import RunView, Sample, as_number, drawn, kept_sample
from usersim.conversation import Conversation
from usersim.surface import opening

Context = dict[str, Any]
STRATA = (("one round", 1, 1), ("two or three rounds", 2, 3), ("four rounds and more", 4, None))
PER_STRATUM = 2
DUPLICATE_STAGES = ("exact duplicates", "near-duplicates")


def samples(conversations: Sequence[Conversation]) -> list[tuple[str, int, list[Sample]]]:
    """Strata by rounds: name, how many there are, and a few drawn by the hash of their ids."""
    found = []
    for name, low, high in STRATA:
        group = [
            c for c in conversations if c.num_rounds >= low and c.num_rounds <= (high or 10**9)
        ]
        if group:
            found.append((name, len(group), [kept_sample(c) for c in drawn(group, PER_STRATUM)]))
    return found


def cleanliness(view: RunView) -> Context:
    """Languages, duplicates, benchmark questions, training people's words, personal data."""
    duplicates = [s for s in view.funnel("curate", "funnel") if s["stage"] in DUPLICATE_STAGES]
    languages = view.counts("curate", "languages")
    return {
        "languages": _shares(languages),
        "duplicates": [
            (plain_words(reason), count)
            for stage in duplicates
            for reason, count in stage["reasons"].items()
        ],
        "compared": duplicates[0]["in"] if duplicates else None,
        "contamination": _contamination(view.table("curate", "contamination")),
        "memory": _memory(view.table("curate", "memorisation")),
        "mended": view.counts("curate", "mended"),
    }


def _shares(counts: Mapping[str, float], most: int = 6) -> list[tuple[str, float]]:
    total = sum(counts.values())
    shares = [(name, number / total) for name, number in counts.items()]
    rest = sum(share for _, share in shares[most:])
    return shares[:most] + ([("others", rest)] if rest else [])


def _contamination(table: Mapping[str, Any]) -> Context | None:
    """What was looked for, and what was found; None where nothing was looked for."""
    listed = table.get("benchmarks")
    named = [b for b in listed if isinstance(b, dict)] if isinstance(listed, list) else []
    if not named or as_number(table.get("found")) is None:
        return None
    return {
        "names": [str(b.get("name")) for b in named],
        "questions": sum(as_number(b.get("questions")) or 0 for b in named),
        "found": table["found"],
        "kept": as_number(table.get("kept")),
        "conversations": as_number(table.get("conversations")),
    }


def _memory(table: Mapping[str, Any]) -> list[tuple[str, float | None, float | None, bool]]:
    """Rows of (what, simulated, people held out, whether a share)."""
    sides = [table.get(side) for side in ("simulated", "held_out_people")]
    tables = [side if isinstance(side, dict) else {} for side in sides]
    if not as_number(tables[0].get("conversations")):
        return []
    rows = (
        ("conversations compared with training people", "conversations", False),
        ("begin as a training person did", "openers", True),
        ("hold a long stretch of a training person's words", "verbatim", True),
        ("longest such stretch, words", "longest", False),
    )
    ours, theirs = tables
    return [
        (name, as_number(ours.get(key)), as_number(theirs.get(key)), share)
        for name, key, share in rows
    ]


def fidelity(view: RunView) -> Context | None:
    """The rows of fidelity.json by measure; None without any."""
    rows = fidelity_rows(view.fidelity)
    if not rows:
        return None
    points: dict[str, list[FidelityRow]] = {}
    for row in rows:
        points.setdefault(row.point, []).append(row)
    left_out = view.fidelity.get("left_out")
    about = view.fidelity.get("about")
    reference = about.get("reference") if isinstance(about, dict) else None
    return {
        "points": points,
        "near": sum(bool(row.within) for row in rows),
        "judged": sum(row.within is not None for row in rows),
        "left_out": left_out if isinstance(left_out, dict) else {},
        "reference": reference if isinstance(reference, dict) else {},
    }


def openers(view: RunView) -> list[tuple[str, float]]:
    """Distinct first three words of openers, in equally large samples, by side."""
    sides = {"simulated": view.simulated, "people": view.people}
    there = {name: side for name, side in sides.items() if side}
    size = min((len(side) for side in there.values()), default=0)
    return [
        (name, len({opening(c.opener) for c in drawn(side, size)}) / size)
        for name, side in there.items()
    ]


def choice(view: RunView) -> Context | None:
    """What a likeness was learned from, how well it tells, and what choosing by it cost.

    None where no turn was chosen and nothing learned.
    """
    passed_over = view.number("simulate", "candidates_passed_over")
    learned = [
        (name, *(view.number("likeness", part, key) for key in ("people", "simulated", "auc")))
        for part, name in (("first", "first turns"), ("later", "later turns"))
        if view.table("likeness", part)
    ]
    if not learned and not passed_over:
        return None
    return {
        "learned": learned,
        "learning": view.number("likeness", "tokens"),
        "passed_over": passed_over,
        "tokens": view.number("simulate", "tokens_passed_over"),
        "stand": view.number("simulate", "tokens", "user"),
    }


def cost(view: RunView) -> Context | None:
    """Engine time and tokens, in all and for each kept conversation; None where not known."""
    kept = view.number("curate", "kept")
    rows = [
        (name, view.number("curate", "cost", key, "tokens"),
         view.number("curate", "cost", key, "seconds"))
        for name, key in (("all conversations", "in"), ("those that were thrown away", "dropped"),
                          ("read and written by the model that judged", "judging"))
        if key != "judging" or view.table("curate", "cost", key)
    ]  # fmt: skip
    if not kept or rows[0][1] is None:
        return None
    tokens, seconds = rows[0][1], rows[0][2]
    each = ("each kept conversation", tokens / kept, seconds / kept if seconds else None)
    by_reason = view.table("curate", "cost", "dropped_by_reason")
    dear = {
        plain_words(reason): number
        for reason, spent in by_reason.items()
        if isinstance(spent, dict) and (number := as_number(spent.get("tokens")))
    }
    return {"rows": [*rows, each], "dear": dear}
