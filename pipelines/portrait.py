"""The corpus before and after curation, in the same figures: what curation changed.

Shares come from the verdicts, which every conversation has; duplicates are counted anew, at a
looser threshold than the one they were dropped at.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from usersim.neardup import near_duplicate_pairs
from usersim.shingling import Shingling

if TYPE_CHECKING:
    from pipelines.curate_figures import Judged, Place

ALIKE = 0.5
"""Jaccard similarity of two user sides (three-word runs) that counts as a duplicate here."""
GROUPS = {
    "role_confusion": ("transcript", "user_answers", "assistant_asks", "echo"),
    "refusals": ("refusal", "self_naming"),
    "repetition": ("repetitive_turn", "repeated_turn", "goodbye_loop"),
    "leaks": ("template_leak", "reasoning_leak"),
    "foreign_language": ("foreign_language",),
    "encoding_damage": ("encoding_damage",),
    "contaminated": ("contaminated",),
    "memorised": ("memorised",),
    "slurs": ("slur", "toxic"),
}
"""What the table shows, and the reasons that it is made of."""


def before_and_after(judged: "Judged") -> dict[str, dict[str, Any]]:
    """`before` and `after`: `conversations`, `duplicates` and a share for each of GROUPS.

    And `personal_data`: what was masked counts before, what is left after.
    """
    everything = list(judged.verdicts)
    kept = [place for place in everything if place not in judged.rejected]
    return {
        "before": _portrait(judged, everything, ("mended:", "personal")),
        "after": _portrait(judged, kept, ("personal",)),
    }


def _portrait(
    judged: "Judged", places: Sequence["Place"], marks: tuple[str, ...]
) -> dict[str, Any]:
    rows = [judged.verdicts[place] for place in places]
    table: dict[str, Any] = {"conversations": len(rows)}
    table["duplicates"] = duplicate_share([judged.sides[place] for place in places])
    for name, reasons in GROUPS.items():
        table[name] = _share(not set(reasons).isdisjoint(row["failed"]) for row in rows)
    table["personal_data"] = _share(_personal(row, marks) for row in rows)
    return table


def _personal(row: dict[str, Any], marks: tuple[str, ...]) -> bool:
    tags = [tag for tag in row["tags"] if tag != "mended:encoding"]
    return "personal" in row["failed"] or any(tag.startswith(marks) for tag in tags)


def _share(found: Iterable[bool]) -> float | None:
    values = list(found)
    return round(sum(values) / len(values), 4) if values else None


def duplicate_share(user_sides: Sequence[str]) -> float | None:
    """Share of conversations whose user side is alike (ALIKE) to another's; None without any."""
    if not user_sides:
        return None
    pairs = near_duplicate_pairs(user_sides, ALIKE, Shingling(3))
    alike = {position for pair in pairs for position in (pair.left, pair.right)}
    return round(len(alike) / len(user_sides), 4)
