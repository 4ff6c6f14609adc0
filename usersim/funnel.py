"""The funnel: what each stage took in, what it kept, and why the rest was not. Nothing vanishes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from usersim.conversation import Rejection


@dataclass(frozen=True, slots=True)
class FunnelStage:
    """Counts of one stage; `num_in == num_kept + sum(reasons.values())` or it cannot be made."""

    name: str
    num_in: int
    num_kept: int
    reasons: dict[str, int] = field(default_factory=dict)
    unit: str = "conversations"

    def __post_init__(self) -> None:
        rejected = sum(self.reasons.values())
        assert self.num_in == self.num_kept + rejected, (
            f"stage {self.name}: {self.num_in} in, {self.num_kept} kept, {rejected} rejected"
        )

    @classmethod
    def of(
        cls,
        name: str,
        num_in: int,
        kept: Sequence[Any],
        rejected: Iterable[Rejection],
        unit: str = "conversations",
    ) -> "FunnelStage":
        """Counts taken from what a stage returned."""
        reasons = Counter(r.reason for r in rejected)
        return cls(name, num_in, len(kept), dict(sorted(reasons.items())), unit)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        return {
            "stage": self.name,
            "unit": self.unit,
            "in": self.num_in,
            "kept": self.num_kept,
            "rejected": sum(self.reasons.values()),
            "reasons": self.reasons,
        }
