"""The curation stage: every rule's verdict on every conversation, duplicates out, reasons kept.

    conversations/part-*.parquet -> curated/part-*.parquet      what is kept
                                    curated/verdicts/*.parquet  every verdict, for later decisions
                                    rejected/curate.parquet     what is not, and why

Shards are judged one by one, on as many processes (or Ray workers) as there are; deduplication
compares their traces on disk; then each shard is written without what goes. Memory holds what each
worker's shard takes, and of all rows the verdicts and the user sides. What is interrupted goes on
after the last whole shard.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.balance import BalanceSettings, surplus
from pipelines.curate_figures import BALANCE, Drop, Judged, Place, figures_of, with_judge
from pipelines.curate_settings import CurateSettings
from pipelines.dedup import duplicates_of
from pipelines.judge_shards import ShardJudging, judge_of
from pipelines.llm_judge import ask_judge
from pipelines.realism import most_tellable
from pipelines.spread import Spread, here
from usersim.conversation import Conversation, Rejection, conversation_schema
from usersim.errors import InputError
from usersim.files import read_conversations, write_conversations, write_rejections, write_table
from usersim.progress import track


def curate(
    settings: CurateSettings,
    conversations: Path,
    curated: Path,
    rejected: Path,
    people: Path | None = None,
    rates: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Judge the conversations of a folder of `part-*.parquet`; returns the stage's figures.

    `rates` are the tokens a second at which each speaker's turns were made; for the rest see
    `Curation`, which this carries out on this machine.
    """
    return Curation(settings, conversations, curated, rejected, people).carry_out(rates)


@dataclass(frozen=True, slots=True)
class Curation:
    """What is curated, by which settings, and where it goes.

    Written are `curated/part-*.parquet` (the same shards, without what was rejected), the table of
    all verdicts, and the file `rejected`. `people` is the folder of those the simulator learned
    from.
    """

    settings: CurateSettings
    conversations: Path
    curated: Path
    rejected: Path
    people: Path | None = None

    def carry_out(
        self, rates: Mapping[str, float] | None = None, spread: Spread | None = None
    ) -> dict[str, Any]:
        """Do it; returns the figures of `pipelines.curate_figures.figures_of`.

        `spread` says where the pieces of work are done: by default on the cores of this machine.
        What comes out does not depend on it. Raises InputError when the folder holds no shard or
        one that is not ours, WorldError when the disk refuses.
        """
        shards = _shards(self.conversations)
        num_rows = [_num_rows(path) for path in shards]
        work = spread or here(len(shards), sum(num_rows))
        told = self._ask_judge(shards)
        tasks = [self._judging(number, path, told) for number, path in enumerate(shards)]
        judged = _judge_all(tasks, num_rows, work)
        dropped = self._dropped(tasks, judged, work)
        num_kept = self._write(tasks, judged, dropped)
        judge = judge_of(self.settings.model_dump_json(), self.people, tasks[0].scores)
        figures = figures_of(judged, num_kept, judge.witnesses, rates)
        return with_judge(figures, told) if told else figures

    def _ask_judge(self, shards: Sequence[Path]) -> dict[str, Any]:
        """The judge's figures; nothing where the recipe asks for none."""
        settings = self.settings
        if settings.judge.kind == "off":
            return {}
        return ask_judge(settings.judge, settings.filters, shards, self._scores)

    def _judging(self, number: int, path: Path, told: Mapping[str, Any]) -> ShardJudging:
        place = (number, path, self._work, self.settings, self.people)
        if not told:
            return ShardJudging(*place)
        return ShardJudging(*place, self._scores, told["answered"])

    @property
    def _scores(self) -> Path:
        """Not in `curated`: the judge's answers outlive a change of thresholds."""
        return self.curated.with_name("judged") / "scores.sqlite"

    @property
    def _work(self) -> Path:
        """Beside `curated`, not in it: a stage that begins anew clears that."""
        return self.curated.with_name(f"{self.curated.name}.work")

    def _dropped(
        self, tasks: Sequence[ShardJudging], judged: Judged, spread: Spread
    ) -> dict[Place, Drop]:
        """What goes of what the rules let pass: duplicates, then what is too much of."""
        places = list(judged.members)
        duplicates = duplicates_of([task.part for task in tasks], self.settings.dedup, spread)
        dropped = {places[i]: Drop.for_duplicate(found) for i, found in duplicates.items()}
        dropped |= _surplus(judged, dropped, self.settings.balance, self.people)
        share = self.settings.balance.drop_most_tellable
        if not share:
            return dropped
        left = {p: c for p, c in _passed(tasks, judged) if p not in dropped}
        told = most_tellable(list(left.values()), _known(self.people), share)
        return dropped | {
            place: Drop(BALANCE, "tellable", f"log odds of being simulated: {told[c.id]:.2f}")
            for place, c in left.items()
            if c.id in told
        }

    def _write(
        self, tasks: Sequence[ShardJudging], judged: Judged, dropped: Mapping[Place, Drop]
    ) -> int:
        """Write everything; returns how many are kept."""
        num_kept, places = 0, iter(list(judged.members))
        for task in tasks:
            kept = list(_kept(_placed(task, places), dropped, judged))
            write_conversations(self.curated / task.path.name, kept)
            num_kept += len(kept)
        _write_verdicts(self.curated / "verdicts" / "verdicts.parquet", judged)
        rejections = (judged.rejected[place] for place in sorted(judged.rejected))
        write_rejections(self.rejected, rejections)
        written = {self.curated / task.path.name for task in tasks}
        for stale in set(self.curated.glob("part-*.parquet")) - written:
            stale.unlink()
        shutil.rmtree(self._work)
        return num_kept


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


def _judge_all(tasks: Sequence[ShardJudging], num_rows: Sequence[int], spread: Spread) -> Judged:
    judged = Judged()
    with track("curate", total=sum(num_rows), unit="conversations") as bar:
        for rows, found in zip(num_rows, spread(ShardJudging.judge, tasks), strict=True):
            judged.add(found)
            bar.advance(rows)
            bar.note(f"{len(judged.rejected)} rejected by the filters")
    return judged


def _placed(task: ShardJudging, places: Iterator[Place]) -> Iterator[tuple[Place, Conversation]]:
    """What passed the rules of one shard; `places` goes on where the shard before it ended."""
    passed = read_conversations(task.part.texts)
    return zip(islice(places, len(passed)), passed, strict=True)


def _passed(tasks: Sequence[ShardJudging], judged: Judged) -> Iterator[tuple[Place, Conversation]]:
    """What passed the rules, of all shards."""
    places = iter(list(judged.members))
    return (pair for task in tasks for pair in _placed(task, places))


def _kept(
    passed: Iterable[tuple[Place, Conversation]], dropped: Mapping[Place, Drop], judged: Judged
) -> Iterator[Conversation]:
    """The conversations of a shard that stay; the dropped ones join the rejected."""
    for place, conversation in passed:
        if drop := dropped.get(place):
            if twin := drop.duplicate:
                told = {"duplicate_of": twin.kept_id, "cluster": twin.cluster}
                judged.verdicts[place] |= told | {"similarity": twin.similarity}
            judged.rejected[place] = Rejection.of(
                conversation, drop.stage, drop.reason, drop.detail
            )
        else:
            yield conversation


def _known(people: Path | None) -> list[Conversation]:
    """The training people of the run; none where UserGPT came from elsewhere."""
    train = people / "train.parquet" if people else None
    return read_conversations(train) if train and train.is_file() else []


def _surplus(
    judged: Judged, dropped: dict[Place, Drop], settings: BalanceSettings, people: Path | None
) -> dict[Place, Drop]:
    """What balance drops of what is neither bad nor a duplicate."""
    left = [place for place in judged.members if place not in dropped]
    rounds: Counter[int] = Counter()
    if settings.rounds == "as_people":
        rounds.update(c.num_rounds for c in _known(people))
    found = surplus([judged.members[place] for place in left], settings, rounds)
    return {left[i]: Drop(BALANCE, gone.reason, gone.detail) for i, gone in found.items()}


_SCORES = ("quality", "toxicity", "judge_score", "similarity")
_NAMES = ("judge_outcome", "judge_reason", "duplicate_of", "cluster")


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
            *((name, pa.float64()) for name in _SCORES),
            *((name, text) for name in _NAMES),
        ]
    )
    rejected = {place: rejection.reason for place, rejection in judged.rejected.items()}
    rows = [row | {"dropped_for": rejected.get(p)} for p, row in judged.verdicts.items()]
    write_table(path, pa.Table.from_pylist(rows, schema=schema))
