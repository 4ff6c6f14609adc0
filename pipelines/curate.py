"""The curation stage: every rule's verdict on every conversation, duplicates out, reasons kept.

    conversations/part-*.parquet -> curated/part-*.parquet      what is kept, unchanged
                                    curated/verdicts/*.parquet  every verdict, for later decisions
                                    rejected/curate.parquet     what is not, and why

Two passes over the shards: the first judges and remembers what deduplication needs (user sides
only), the second copies what is kept; so memory holds one shard and the user sides.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.dedup import EXACT_REASONS, Candidate, DedupSettings, Duplicate, deduplicate
from pipelines.filters import FilterSettings
from pipelines.judging import FILTERS, Judge, Judgement
from pipelines.marks import Mark, read_marks
from usersim.conversation import Conversation, Rejection, conversation_schema
from usersim.errors import InputError
from usersim.files import read_rows, write_conversations, write_rejections, write_table
from usersim.funnel import FunnelStage
from usersim.progress import track
from usersim.settings import Settings

SPEAKERS = ("user", "assistant")
EXACT, NEAR = "exact duplicates", "near-duplicates"


class CurateSettings(Settings):
    """What a conversation must be to enter the corpus."""

    filters: FilterSettings = Field(
        default_factory=FilterSettings, description="thresholds of the rules"
    )
    dedup: DedupSettings = Field(
        default_factory=DedupSettings, description="what counts as a duplicate"
    )
    marks: bool = Field(
        True, description="drop what a person marked bad in the dashboard (the run's marks.json)"
    )


Place = tuple[int, int]
"""Number of a shard, and of a row in it: what identifies a record even where ids repeat."""


@dataclass(slots=True)
class _Judged:
    """What the first pass found."""

    candidates: dict[Place, Candidate] = field(default_factory=dict)
    rejected: dict[Place, Rejection] = field(default_factory=dict)
    verdicts: dict[Place, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[Place, int] = field(default_factory=dict)
    mended: dict[Place, Conversation] = field(default_factory=dict)
    """Conversations that are kept otherwise than they were read."""
    changes: Counter[str] = field(default_factory=Counter)
    marks: dict[str, Mark] = field(default_factory=dict)


def curate(
    settings: CurateSettings, conversations: Path, curated: Path, rejected: Path
) -> dict[str, Any]:
    """Judge the conversations of a folder of `part-*.parquet`; returns the stage's figures.

    Writes `curated/part-*.parquet` (the same shards, without what was rejected), the table of all
    verdicts, and the file `rejected`. Figures: `in`, `kept`, `kept_share`, `reasons`, `findings`
    (how many conversations each rule has something against, deciding or not), `tags`, `mended`
    (places changed in what the filters kept, by kind), `languages`,
    `tokens` (generated; spent on what was dropped, by reason), `funnel`.
    Raises InputError when the folder holds no shard or one that is not ours, WorldError when the
    disk refuses.
    """
    shards = _shards(conversations)
    marks = read_marks(conversations.parent) if settings.marks else {}
    judged = _judge_all(shards, settings, _Judged(marks=marks))
    places = list(judged.candidates)
    duplicates = deduplicate([judged.candidates[place] for place in places], settings.dedup)
    dropped = {places[i]: duplicate for i, duplicate in duplicates.items()}
    num_kept = 0
    for number, path in enumerate(shards):
        kept = list(_kept(_rows(number, path), dropped, judged))
        write_conversations(curated / path.name, kept)
        num_kept += len(kept)
    _write_verdicts(curated / "verdicts" / "verdicts.parquet", judged)
    write_rejections(rejected, (judged.rejected[place] for place in sorted(judged.rejected)))
    for stale in set(curated.glob("part-*.parquet")) - {curated / path.name for path in shards}:
        stale.unlink()
    return _figures(judged, num_kept)


def _shards(folder: Path) -> list[Path]:
    shards = sorted(folder.glob("part-*.parquet"))
    if not shards:
        raise InputError(f"no conversations (part-*.parquet) in {folder}: simulate some first")
    return shards


def _num_rows(path: Path) -> int:
    """How many rows a shard holds. Raises InputError unless its columns are a conversation's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
        found, num_rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read {path} as Parquet: {error}") from error
    if missing := {"id", "messages"} - set(found.names):
        raise InputError(f"{path} has no column {' and no '.join(sorted(missing))}")
    for column in conversation_schema():
        if column.name in found.names and found.field(column.name).type != column.type:
            kind = found.field(column.name).type
            raise InputError(f"{path}: column {column.name} is {kind}, it should be {column.type}")
    return int(num_rows)


def _rows(number: int, path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    return (((number, i), row) for i, row in enumerate(read_rows(path)))


def _judge_all(shards: Sequence[Path], settings: CurateSettings, judged: _Judged) -> _Judged:
    judge = Judge(settings.filters)
    total = sum(_num_rows(path) for path in shards)
    with track("curate", total=total, unit="conversations") as bar:
        for number, path in enumerate(shards):
            readable = []
            for place, row in _rows(number, path):
                judged.tokens[place] = sum(row.get(f"{r}_tokens") or 0 for r in SPEAKERS)
                if conversation := _readable(place, row, judged):
                    readable.append((place, conversation))
                else:
                    bar.advance()
            judgements = judge.judge([conversation for _, conversation in readable])
            for (place, _), judgement in zip(readable, judgements, strict=True):
                _note(place, judgement, settings.filters, judged)
                bar.advance()
            bar.note(f"{len(judged.rejected)} rejected by the filters")
    return judged


def _readable(place: Place, row: dict[str, Any], judged: _Judged) -> Conversation | None:
    """The row as a conversation, or None after it was put aside with its reason."""
    try:
        if not isinstance(row["id"], str):
            raise InputError("a conversation needs an id", "missing_id")
        return Conversation.from_row(row)
    except InputError as error:
        reason = str(error.args[1]) if len(error.args) > 1 else "malformed"
        judged.rejected[place] = Rejection(
            str(row["id"]), FILTERS, reason, str(error.args[0]), _as_json(row)
        )
        return None


def _as_json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)


def _note(place: Place, judgement: Judgement, settings: FilterSettings, judged: _Judged) -> None:
    conversation, language = judgement.conversation, judgement.evidence.language
    judged.verdicts[place] = {
        "id": conversation.id,
        "failed": judgement.failed,
        "tags": judgement.tags,
        "language": language.code if language else None,
        "language_probability": language.probability if language else None,
    }
    if rejection := judgement.rejection(settings):
        judged.rejected[place] = rejection
        return
    if (mark := judged.marks.get(conversation.id)) and mark.mark == "bad":
        judged.rejected[place] = Rejection.of(conversation, FILTERS, "marked_bad", mark.why)
        return
    judged.candidates[place] = Candidate.of(conversation)
    judged.changes.update(judgement.changes)
    if judgement.changes:
        judged.mended[place] = conversation


def _kept(
    rows: Iterable[tuple[Place, dict[str, Any]]], dropped: dict[Place, Duplicate], judged: _Judged
) -> Iterator[Conversation]:
    """The conversations of a shard that stay; duplicates join the rejected ones."""
    for place, row in rows:
        if place not in judged.candidates:
            continue
        conversation = judged.mended.get(place) or Conversation.from_row(row)
        if duplicate := dropped.get(place):
            stage = EXACT if duplicate.reason in EXACT_REASONS else NEAR
            judged.rejected[place] = Rejection.of(
                conversation, stage, duplicate.reason, str(duplicate)
            )
        else:
            yield conversation


def _write_verdicts(path: Path, judged: _Judged) -> None:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    columns = [("id", text), ("dropped_for", text), ("failed", texts), ("tags", texts)]
    schema = pa.schema([*columns, ("language", text), ("language_probability", pa.float64())])
    rejected = {place: rejection.reason for place, rejection in judged.rejected.items()}
    rows = [row | {"dropped_for": rejected.get(p)} for p, row in judged.verdicts.items()]
    write_table(path, pa.Table.from_pylist(rows, schema=schema))


def _figures(judged: _Judged, num_kept: int) -> dict[str, Any]:
    num_in = len(judged.tokens)
    funnel, left = [], num_in
    for name in (FILTERS, EXACT, NEAR):
        reasons = Counter(r.reason for r in judged.rejected.values() if r.stage == name)
        stage = FunnelStage(name, left, left - reasons.total(), dict(sorted(reasons.items())))
        funnel.append(stage.to_dict())
        left = stage.num_kept
    assert left == num_kept, f"{num_in} in, {num_kept} kept, {len(judged.rejected)} rejected"
    dropped: Counter[str] = Counter()
    for place, rejection in judged.rejected.items():
        dropped[rejection.reason] += judged.tokens[place]
    verdicts = judged.verdicts.values()
    return {
        "in": num_in,
        "kept": num_kept,
        "kept_share": round(num_kept / num_in, 4) if num_in else 0.0,
        "reasons": dict(Counter(r.reason for r in judged.rejected.values()).most_common()),
        "findings": dict(Counter(name for v in verdicts for name in v["failed"]).most_common()),
        "tags": dict(Counter(tag for v in verdicts for tag in v["tags"]).most_common()),
        "mended": dict(judged.changes.most_common()),
        "languages": dict(Counter(v["language"] for v in verdicts).most_common()),
        "tokens": {
            "in": sum(judged.tokens.values()),
            "dropped": dropped.total(),
            "dropped_by_reason": dict(dropped.most_common()),
        },
        "funnel": funnel,
    }
