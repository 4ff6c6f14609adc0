"""One shard judged, wherever: its rows sifted by every rule, and left ready to be deduplicated.

    curated.work/seen-00000.arrow      every row that is a conversation, mended
    curated.work/traces-00000.*        what deduplication must know of them
    curated.work/verdicts-00000.parquet  what was found of every row
    curated.work/judged-00000.json     that it is whole, written last

The work folder is gone when curation is done.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from pipelines.curate_settings import CurateSettings, witnesses_of
from pipelines.judging import FILTERS, Judge, Judgement
from pipelines.marks import FILE as MARKS
from pipelines.marks import Mark, read_marks
from pipelines.traces import Part, Traces
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.files import (
    column_at,
    fingerprint,
    read_json,
    read_mappable,
    read_rows,
    write_json,
    write_mappable,
    write_table,
)
from usersim.surface import stable_hash

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Row = dict[str, Any]
"""What was found of a row: see `work_schema`."""


def verdict_schema() -> "pa.Schema":
    """The columns of the verdicts that are kept, but `dropped_for` and duplicates'."""
    import pyarrow as pa

    text, texts, number = pa.string(), pa.list_(pa.string()), pa.float64()
    columns = [("id", text), ("failed", texts), ("tags", texts), ("language", text)]
    columns += [("language_probability", number), ("verbatim_words", pa.int64())]
    columns += [("quality", number), ("toxicity", number), ("judge_score", number)]
    return pa.schema([*columns, ("judge_outcome", text), ("judge_reason", text)])


def work_schema() -> "pa.Schema":
    """Those, and what the rest of curation must know.

    Why the rules drop a row (`stage`, `reason`, `detail`; null where it passes) and, where it is no
    conversation, the `record`; tokens by speaker; what balance looks at (`draw` is a hash of the
    id, which decides who stays); `opener_of`: it begins as a training person did.
    """
    import pyarrow as pa

    text, count = pa.string(), pa.int64()
    columns = [(name, text) for name in ("stage", "reason", "detail", "record")]
    columns += [("user_tokens", count), ("assistant_tokens", count), ("draw", pa.uint64())]
    columns += [("rounds", pa.int32()), ("intent", text), ("persona", text)]
    extra = [*columns, ("is_conversation", pa.bool_()), ("opener_of", pa.bool_())]
    return pa.schema([*verdict_schema(), *pa.schema(extra)])


@dataclass(frozen=True)
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
        """Every conversation of the shard, for deduplication."""
        return Part(self._file("seen", ".arrow"), self._file("traces", ""))

    @property
    def mark(self) -> Path:
        """What says that the shard is judged."""
        return self._file("judged", ".json")

    def judge(self) -> Counter[str]:
        """Judge every row, unless that is done; returns what was mended in what passes, by kind.

        What was found is left in the work folder, at last a print of the settings and of the files
        that were read: an interrupted curation goes on after the last whole shard.
        """
        mark, wanted = self.mark, self._print()
        if mark.exists() and (told := read_json(mark)).get("print") == wanted:
            return Counter(TypeAdapter(dict[str, int]).validate_python(told["mended"]))
        mended = self._judged()
        write_json(mark, {"print": wanted, "mended": mended})
        return mended

    def verdicts(self) -> list[Row]:
        """What was found of every row, in order."""
        return read_rows(self._verdicts)

    def conversations(self) -> list[Conversation]:
        """The rows that are conversations, as they were mended."""
        return read_mappable(self.part.texts)

    def column(self, name: str) -> "pa.ChunkedArray":
        """A column of the verdicts about the rows that are conversations."""
        return column_at(self._verdicts, name).filter(column_at(self._verdicts, "is_conversation"))

    def passed(self) -> "NDArray[np.bool_]":
        """Which of those the rules let pass."""
        import numpy as np

        found: NDArray[np.bool_] = np.asarray(self.column("reason").is_null(), dtype=bool)
        return found

    @property
    def _verdicts(self) -> Path:
        return self._file("verdicts", ".parquet")

    def _print(self) -> str:
        models, known = self.settings.models, self.settings.decontamination.benchmarks
        named = (models.quality, models.toxicity, *known)
        read = [self.path, self.path.parent.parent / MARKS, *(Path(name) for name in named if name)]
        read += (
            [self.people / f"{name}.parquet" for name in ("train", "test")] if self.people else []
        )
        seen = [(p.stat().st_size, p.stat().st_mtime_ns) if p.exists() else None for p in read]
        settings = self.settings.model_dump(mode="json")
        return fingerprint(["judged 3", settings, str(self.path), seen, self.num_scores])

    def _judged(self) -> Counter[str]:
        import pyarrow as pa

        judge = judge_of(self.settings.model_dump_json(), self.people, self.scores)
        marks = read_marks(self.path.parent.parent) if self.settings.marks else {}
        read = [_readable(row) for row in read_rows(self.path)]
        judgements = judge.judge([found for _, found in read if found])
        rows, mended, told = [], Counter[str](), iter(judgements)
        for row, found in read:
            if found:
                judgement = next(told)
                row.update(_told(judgement, marks, judge))
                mended.update(judgement.changes if row["reason"] is None else {})
            rows.append(row)
        self._leave(judgements)
        write_table(self._verdicts, pa.Table.from_pylist(rows, schema=work_schema()))
        return mended

    def _leave(self, judgements: Sequence[Judgement]) -> None:
        conversations = [judgement.conversation for judgement in judgements]
        faults = [len(each.failed) + sum(each.changes.values()) for each in judgements]
        write_mappable(self.part.texts, conversations)
        Traces.of(conversations, faults, self.settings.dedup.shape).write(self.part.stem)

    def _file(self, kind: str, ending: str) -> Path:
        return self.work / f"{kind}-{self.number:05d}{ending}"


@lru_cache(maxsize=1)
def judge_of(settings: str, people: Path | None, scores: Path | None = None) -> Judge:
    """One judge a process: what its witnesses know takes seconds to load."""
    known = CurateSettings.model_validate_json(settings)
    return Judge(known.filters, witnesses_of(known, people, scores))


def _readable(row: Row) -> tuple[Row, Conversation | None]:
    """What is known of a row before it is judged, and the conversation that it holds.

    None where it holds none; then it is dropped, with its reason.
    """
    told: Row = {f"{role}_tokens": row.get(f"{role}_tokens") or 0 for role in ("user", "assistant")}
    try:
        if not isinstance(row["id"], str):
            raise InputError("a conversation needs an id", "missing_id")
        return told | {"is_conversation": True}, Conversation.from_row(row)
    except InputError as error:
        reason = str(error.args[1]) if len(error.args) > 1 else "malformed"
        record = json.dumps(row, ensure_ascii=False, default=str)
        told |= {"id": str(row["id"]), "is_conversation": False, "stage": FILTERS}
        return told | {"reason": reason, "detail": str(error.args[0]), "record": record}, None


def _told(judgement: Judgement, marks: Mapping[str, Mark], judge: Judge) -> Row:
    """What was found of a conversation."""
    conversation, known = judgement.conversation, judgement.evidence
    language, recall, judged = known.language, known.recall, known.judged
    rejection, mark = judgement.rejection(judge.settings), marks.get(conversation.id)
    why = (FILTERS, rejection.reason, rejection.detail) if rejection else (None, None, None)
    if not rejection and mark and mark.mark == "bad":
        why = (FILTERS, "marked_bad", mark.why)
    return {
        "id": conversation.id,
        "failed": judgement.failed,
        "tags": judgement.tags,
        "language": language.code if language else None,
        "language_probability": language.probability if language else None,
        "verbatim_words": recall.verbatim_words if recall else None,
        "opener_of": recall.opener_of is not None if recall else None,
        "quality": known.quality,
        "toxicity": known.toxicity,
        "judge_score": judged.score if judged else None,
        "judge_outcome": judged.outcome if judged else None,
        "judge_reason": judged.reason if judged else None,
        **dict(zip(("stage", "reason", "detail"), why, strict=True)),
        "draw": stable_hash(conversation.id),
        "rounds": conversation.num_rounds,
        "intent": conversation.intent_id,
        "persona": conversation.persona_id,
    }
