"""One conversation after another, judged: mended, looked at by every rule, with all evidence.

A `Judge` holds what takes long to load (its witnesses: models, the index of benchmark questions)
and no state of its own, so that one can judge in every process of a machine or a cluster: the same
conversation gets the same judgement wherever it is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.evidence import Evidence
from pipelines.filters import FilterSettings, Verdict, deciding, judge, tags_of
from pipelines.first_look import FirstLook
from pipelines.mending import MENDED, mended
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
        self._look = FirstLook(settings)

    def judge(self, conversations: Sequence[Conversation]) -> list[Judgement]:
        """A judgement for each conversation, in order."""
        asked, prepared = self._look.ask(conversations), list(conversations)
        changes: dict[int, dict[str, int]] = {}
        for i, reasons in enumerate(asked):
            if not MENDED.isdisjoint(reasons):
                prepared[i], changed = mended(conversations[i], self.settings)
                if changed:
                    changes[i] = changed
        again = self._look.ask([prepared[i] for i in changes])
        for i, reasons in zip(changes, again, strict=True):
            asked[i] = reasons
        evidence = self._evidence(prepared)
        return [
            self._judgement(conversation, known, reasons, changes.get(i, {}))
            for i, (conversation, known, reasons) in enumerate(
                zip(prepared, evidence, asked, strict=True)
            )
        ]

    def _judgement(
        self,
        conversation: Conversation,
        known: Evidence,
        asked: set[str],
        changes: dict[str, int],
    ) -> Judgement:
        verdicts = judge(conversation, self.settings, known, asked)
        tags = tags_of(conversation, self.settings, asked)
        tags += sorted(f"mended:{kind}" for kind in changes)
        return Judgement(conversation, verdicts, known, tags, changes)

    def _evidence(self, conversations: Sequence[Conversation]) -> list[Evidence]:
        told = {witness.tells: witness.testify(conversations) for witness in self.witnesses}
        return [
            Evidence(**{name: values[i] for name, values in told.items()})
            for i in range(len(conversations))
        ]
