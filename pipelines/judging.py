"""One conversation after another, judged: mended, looked at by every rule, with all evidence.

A `Judge` holds what takes long to load (its witnesses: models, the index of benchmark questions)
and no state of its own, so that one can judge in every process of a machine or a cluster: the same
conversation gets the same judgement wherever it is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.evidence import Evidence
from pipelines.filters import FilterSettings, Verdict, deciding, judge, tags_of
from pipelines.mending import mended
from pipelines.witnesses import Witness
from usersim.conversation import Conversation, Rejection

FILTERS = "filters"
"""The stage's name in the funnel and in rejected rows."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of one conversation after every rule has seen it."""

    conversation: Conversation
    """As it enters the corpus: mended and masked where the recipe says so."""
    verdicts: list[Verdict]
    evidence: Evidence
    tags: list[str]
    changes: dict[str, int] = field(default_factory=dict)
    """How many places were mended or masked, by kind."""

    @property
    def failed(self) -> list[str]:
        """Reasons of every rule that has something against it, deciding or not."""
        return [verdict.reason for verdict in self.verdicts if not verdict.passed]

    def rejection(self, settings: FilterSettings) -> Rejection | None:
        """As a rejected row, named by the first deciding rule; None when it is kept."""
        verdict = deciding(self.verdicts, settings)
        if verdict is None:
            return None
        also = [reason for reason in self.failed if reason != verdict.reason]
        detail = (verdict.found or "") + (f"; also: {', '.join(also)}" if also else "")
        return Rejection.of(self.conversation, FILTERS, verdict.reason, detail)


class Judge:
    """Judges batches of conversations by a recipe's filters."""

    def __init__(self, settings: FilterSettings, witnesses: Sequence[Witness] = ()) -> None:
        self.settings = settings
        self.witnesses = tuple(witnesses)

    def judge(self, conversations: Sequence[Conversation]) -> list[Judgement]:
        """A judgement for each conversation, in order."""
        prepared = [mended(conversation, self.settings) for conversation in conversations]
        evidence = self._evidence([conversation for conversation, _ in prepared])
        return [
            Judgement(
                conversation,
                judge(conversation, self.settings, known),
                known,
                tags_of(conversation, self.settings) + sorted(f"mended:{kind}" for kind in changes),
                changes,
            )
            for (conversation, changes), known in zip(prepared, evidence, strict=True)
        ]

    def _evidence(self, conversations: Sequence[Conversation]) -> list[Evidence]:
        told = {witness.tells: witness.testify(conversations) for witness in self.witnesses}
        return [
            Evidence(**{name: values[i] for name, values in told.items()})
            for i in range(len(conversations))
        ]
