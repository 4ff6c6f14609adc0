"""One shard judged, wherever: its rows sifted by every rule, and left ready to be deduplicated.

    curated.work/passed-00000.parquet  what the rules let pass, mended
    curated.work/traces-00000.*        what deduplication must know of it
    curated.work/judged-00000.json     what was found, written last

The work folder is gone when curation is done.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.balance import Member
from pipelines.curate_figures import SPEAKERS, Judged, Place, Tokens
from pipelines.curate_settings import CurateSettings, witnesses_of
from pipelines.judging import FILTERS, Judge, Judgement
from pipelines.marks import FILE as MARKS
from pipelines.marks import Mark, read_marks
from pipelines.traces import Part, Traces
from usersim.conversation import Conversation, Rejection
from usersim.errors import InputError
from usersim.files import fingerprint, read_json, read_rows, write_conversations, write_json


@dataclass(frozen=True, slots=True)
class ShardJudging:
    """The judging of one shard, which any process can do that sees the folders."""

    number: int
    path: Path
    work: Path
    settings: CurateSettings
    people: Path | None
    scores: Path | None = None
    """The book of the judge's answers, where it was asked."""
    num_scores: int = 0

    @property
    def part(self) -> Part:
        """What the rules let pass, for deduplication."""
        matrices = self.settings.dedup.shape.matrices
        return Part(self._file("passed", ".parquet"), self._file("traces", ""), matrices)

    def judge(self) -> Judged:
        """Judge every row, unless that is done; returns what was found and leaves `part`'s files.

        What was found is left beside them, last, with a print of the settings and of the files
        that were read: an interrupted curation goes on after the last whole shard.
        """
        mark, wanted = self._file("judged", ".json"), self._print()
        if mark.exists() and (told := read_json(mark)).get("print") == wanted:
            return Judged.from_json(told["judged"])
        judged = self._judged()
        write_json(mark, {"print": wanted, "judged": judged.to_json()})
        return judged

    def _print(self) -> str:
        read = [self.path, self.path.parent.parent / MARKS]
        read += (
            [self.people / f"{name}.parquet" for name in ("train", "test")] if self.people else []
        )
        seen = [(p.stat().st_size, p.stat().st_mtime_ns) if p.exists() else None for p in read]
        settings = self.settings.model_dump(mode="json")
        return fingerprint([settings, str(self.path), seen, self.num_scores])

    def _judged(self) -> Judged:
        judge = judge_of(self.settings.model_dump_json(), self.people, self.scores)
        marks = read_marks(self.path.parent.parent) if self.settings.marks else {}
        judged, readable = Judged(), list[tuple[Place, Conversation]]()
        for i, row in enumerate(read_rows(self.path)):
            place = (self.number, i)
            judged.tokens[place] = Tokens(*(row.get(f"{r}_tokens") or 0 for r in SPEAKERS))
            if conversation := _readable(place, row, judged):
                readable.append((place, conversation))
        judgements = judge.judge([conversation for _, conversation in readable])
        passed = [
            judgement
            for (place, _), judgement in zip(readable, judgements, strict=True)
            if _passes(place, judgement, judged, marks, judge)
        ]
        self._leave(passed)
        return judged

    def _leave(self, passed: Sequence[Judgement]) -> None:
        conversations = [judgement.conversation for judgement in passed]
        faults = [len(each.failed) + sum(each.changes.values()) for each in passed]
        write_conversations(self.part.texts, conversations)
        Traces.of(conversations, faults, self.settings.dedup.shape).write(self.part.stem)

    def _file(self, kind: str, ending: str) -> Path:
        return self.work / f"{kind}-{self.number:05d}{ending}"


@lru_cache(maxsize=1)
def judge_of(settings: str, people: Path | None, scores: Path | None = None) -> Judge:
    """One judge a process: what its witnesses know takes seconds to load."""
    known = CurateSettings.model_validate_json(settings)
    return Judge(known.filters, witnesses_of(known, people, scores))


def _readable(place: Place, row: dict[str, Any], judged: Judged) -> Conversation | None:
    """The row as a conversation, or None after it was put aside with its reason."""
    try:
        if not isinstance(row["id"], str):
            raise InputError("a conversation needs an id", "missing_id")
        return Conversation.from_row(row)
    except InputError as error:
        reason = str(error.args[1]) if len(error.args) > 1 else "malformed"
        record = json.dumps(row, ensure_ascii=False, default=str)
        judged.rejected[place] = Rejection(
            str(row["id"]), FILTERS, reason, str(error.args[0]), record
        )
        return None


def _passes(
    place: Place, judgement: Judgement, judged: Judged, marks: Mapping[str, Mark], judge: Judge
) -> bool:
    """Whether the rules let it pass; enters what was found."""
    conversation, known = judgement.conversation, judgement.evidence
    if recall := known.recall:
        judged.recalls.append(recall)
    judged.sides[place] = "\n".join(conversation.user_turns)
    judged.verdicts[place] = {
        "id": conversation.id,
        "failed": judgement.failed,
        "tags": judgement.tags,
        "language": known.language.code if known.language else None,
        "language_probability": known.language.probability if known.language else None,
        "verbatim_words": recall.verbatim_words if recall else None,
        "quality": known.quality,
        "toxicity": known.toxicity,
        "judge_score": known.judged.score if known.judged else None,
        "judge_outcome": known.judged.outcome if known.judged else None,
        "judge_reason": known.judged.reason if known.judged else None,
    }
    if rejection := judgement.rejection(judge.settings):
        judged.rejected[place] = rejection
        return False
    if (mark := marks.get(conversation.id)) and mark.mark == "bad":
        judged.rejected[place] = Rejection.of(conversation, FILTERS, "marked_bad", mark.why)
        return False
    judged.members[place] = Member.of(conversation)
    judged.changes.update(judgement.changes)
    return True
