"""The curation stage: every rule's verdict on every conversation, duplicates out, reasons kept.

    conversations/part-*.parquet -> curated/part-*.parquet      what is kept, unchanged
                                    curated/verdicts/*.parquet  every verdict, for later decisions
                                    rejected/curate.parquet     what is not, and why

Two passes over the shards: the first judges and remembers what deduplication needs (user sides
only), the second copies what is kept; so memory holds one shard and the user sides.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.balance import BalanceSettings, Member, surplus
from pipelines.curate_figures import BALANCE, SPEAKERS, Drop, Judged, Place, Tokens, figures_of
from pipelines.decontamination import DecontaminationSettings
from pipelines.dedup import Candidate, DedupSettings, deduplicate
from pipelines.filters import FilterSettings
from pipelines.judging import FILTERS, Judge, Judgement
from pipelines.marks import read_marks
from pipelines.witnesses import ContaminationWitness, LanguageWitness, MemoryWitness, Witness
from usersim.conversation import Conversation, Rejection, conversation_schema
from usersim.errors import InputError
from usersim.files import (
    read_conversations,
    read_rows,
    write_conversations,
    write_rejections,
    write_table,
)
from usersim.memorisation import MemorySettings
from usersim.progress import track
from usersim.settings import Settings


class CurateSettings(Settings):
    """What a conversation must be to enter the corpus."""

    filters: FilterSettings = Field(
        default_factory=FilterSettings, description="thresholds of the rules"
    )
    decontamination: DecontaminationSettings = Field(
        default_factory=DecontaminationSettings, description="benchmarks it may not hold"
    )
    memory: MemorySettings = Field(
        default_factory=MemorySettings, description="what counts as repeating a training person"
    )
    dedup: DedupSettings = Field(
        default_factory=DedupSettings, description="what counts as a duplicate"
    )
    balance: BalanceSettings = Field(
        default_factory=BalanceSettings, description="caps, and the shape of rounds"
    )
    marks: bool = Field(
        True, description="drop what a person marked bad in the dashboard (the run's marks.json)"
    )


def witnesses_of(settings: CurateSettings, people: Path | None = None) -> list[Witness]:
    """Who gathers the evidence that a recipe asks for; `people` is what `ingest` wrote, if it did.

    Raises InputError and WorldError as `benchmark` does.
    """
    witnesses: list[Witness] = [LanguageWitness()]
    if settings.decontamination.benchmarks:
        witnesses.append(ContaminationWitness(settings.decontamination))
    if people is not None and (people / "train.parquet").is_file():
        witnesses.append(MemoryWitness(people, settings.memory))
    return witnesses


def curate(
    settings: CurateSettings,
    conversations: Path,
    curated: Path,
    rejected: Path,
    people: Path | None = None,
    rates: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Judge the conversations of a folder of `part-*.parquet`; returns the stage's figures.

    Writes `curated/part-*.parquet` (the same shards, without what was rejected), the table of all
    verdicts, and the file `rejected`. `people` is the folder of those the simulator learned from,
    `rates` the tokens a second at which each speaker's turns were made; figures are those of
    `pipelines.curate_figures.figures_of`.
    Raises InputError when the folder holds no shard or one that is not ours, WorldError when the
    disk refuses.
    """
    shards = _shards(conversations)
    marks = read_marks(conversations.parent) if settings.marks else {}
    judge = Judge(settings.filters, witnesses_of(settings, people))
    judged = _judge_all(shards, judge, Judged(marks=marks))
    places = list(judged.candidates)
    duplicates = deduplicate([judged.candidates[place] for place in places], settings.dedup)
    dropped = {places[i]: Drop.for_duplicate(found) for i, found in duplicates.items()}
    dropped |= _surplus(judged, dropped, settings.balance, people)
    num_kept = 0
    for number, path in enumerate(shards):
        kept = list(_kept(_rows(number, path), dropped, judged))
        write_conversations(curated / path.name, kept)
        num_kept += len(kept)
    _write_verdicts(curated / "verdicts" / "verdicts.parquet", judged)
    write_rejections(rejected, (judged.rejected[place] for place in sorted(judged.rejected)))
    for stale in set(curated.glob("part-*.parquet")) - {curated / path.name for path in shards}:
        stale.unlink()
    return figures_of(judged, num_kept, judge.witnesses, rates)


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


def _judge_all(shards: Sequence[Path], judge: Judge, judged: Judged) -> Judged:
    total = sum(_num_rows(path) for path in shards)
    with track("curate", total=total, unit="conversations") as bar:
        for number, path in enumerate(shards):
            readable = []
            for place, row in _rows(number, path):
                judged.tokens[place] = Tokens(*(row.get(f"{r}_tokens") or 0 for r in SPEAKERS))
                if conversation := _readable(place, row, judged):
                    readable.append((place, conversation))
                else:
                    bar.advance()
            judgements = judge.judge([conversation for _, conversation in readable])
            for (place, _), judgement in zip(readable, judgements, strict=True):
                _note(place, judgement, judge.settings, judged)
                bar.advance()
            bar.note(f"{len(judged.rejected)} rejected by the filters")
    return judged


def _readable(place: Place, row: dict[str, Any], judged: Judged) -> Conversation | None:
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


def _note(place: Place, judgement: Judgement, settings: FilterSettings, judged: Judged) -> None:
    conversation, language = judgement.conversation, judgement.evidence.language
    if recall := judgement.evidence.recall:
        judged.recalls.append(recall)
    judged.sides[place] = "\n".join(conversation.user_turns)
    judged.verdicts[place] = {
        "id": conversation.id,
        "failed": judgement.failed,
        "tags": judgement.tags,
        "language": language.code if language else None,
        "language_probability": language.probability if language else None,
        "verbatim_words": recall.verbatim_words if recall else None,
    }
    if rejection := judgement.rejection(settings):
        judged.rejected[place] = rejection
        return
    if (mark := judged.marks.get(conversation.id)) and mark.mark == "bad":
        judged.rejected[place] = Rejection.of(conversation, FILTERS, "marked_bad", mark.why)
        return
    judged.candidates[place] = Candidate.of(conversation)
    judged.members[place] = Member.of(conversation)
    judged.changes.update(judgement.changes)
    if judgement.changes:
        judged.mended[place] = conversation


def _kept(
    rows: Iterable[tuple[Place, dict[str, Any]]], dropped: dict[Place, Drop], judged: Judged
) -> Iterator[Conversation]:
    """The conversations of a shard that stay; the dropped ones join the rejected."""
    for place, row in rows:
        if place not in judged.candidates:
            continue
        conversation = judged.mended.get(place) or Conversation.from_row(row)
        if drop := dropped.get(place):
            judged.rejected[place] = Rejection.of(
                conversation, drop.stage, drop.reason, drop.detail
            )
        else:
            yield conversation


def _surplus(
    judged: Judged, dropped: dict[Place, Drop], settings: BalanceSettings, people: Path | None
) -> dict[Place, Drop]:
    """What balance drops of what is neither bad nor a duplicate."""
    left = [place for place in judged.candidates if place not in dropped]
    rounds: Counter[int] = Counter()
    if settings.rounds == "as_people" and people is not None:
        rounds.update(c.num_rounds for c in read_conversations(people / "train.parquet"))
    found = surplus([judged.members[place] for place in left], settings, rounds)
    return {left[i]: Drop(BALANCE, gone.reason, gone.detail) for i, gone in found.items()}


def _write_verdicts(path: Path, judged: Judged) -> None:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    columns = [("id", text), ("dropped_for", text), ("failed", texts), ("tags", texts)]
    schema = pa.schema(
        [
            *columns,
            ("language", text),
            ("language_probability", pa.float64()),
            ("verbatim_words", pa.int64()),
        ]
    )
    rejected = {place: rejection.reason for place, rejection in judged.rejected.items()}
    rows = [row | {"dropped_for": rejected.get(p)} for p, row in judged.verdicts.items()]
    write_table(path, pa.Table.from_pylist(rows, schema=schema))
