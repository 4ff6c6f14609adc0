"""The corpus before and after curation, in the same figures: what curation changed.

Shares come from the verdicts, which every conversation has; duplicates are counted anew, at a
looser threshold than the one they were dropped at.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ALIKE = 0.5
"""Jaccard similarity of two user sides (the recipe's shingles) that counts as a duplicate here."""
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
MASKED = "mended:"
"""How the tags begin that tell what was masked."""


@dataclass(slots=True)
class Portrait:
    """Counts of conversations; `marks` is how tags begin that tell personal data."""

    marks: tuple[str, ...] = ("personal",)
    conversations: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: dict[str, Any]) -> None:
        """Count one more."""
        self.conversations += 1
        failed = set(verdict["failed"])
        self.found.update(n for n, reasons in GROUPS.items() if not failed.isdisjoint(reasons))
        tags = [tag for tag in verdict["tags"] if tag != f"{MASKED}encoding"]
        personal = "personal" in failed or any(tag.startswith(self.marks) for tag in tags)
        self.found["personal_data"] += personal

    def to_dict(self, duplicates: float | None) -> dict[str, Any]:
        """`conversations`, `duplicates`, and a share for each of GROUPS and `personal_data`."""
        shares = {name: self._share(self.found[name]) for name in (*GROUPS, "personal_data")}
        return {"conversations": self.conversations, "duplicates": duplicates, **shares}

    def _share(self, number: int) -> float | None:
        return round(number / self.conversations, 4) if self.conversations else None
