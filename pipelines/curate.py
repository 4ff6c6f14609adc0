"""The curation stage: every rule's verdict on every conversation, duplicates out, reasons kept.

    conversations/part-*.parquet -> curated/part-*.parquet      what is kept
                                    curated/verdicts/*.parquet  every verdict, for later decisions
                                    rejected/curate.parquet     what is not, and why

Shards are judged one by one, on as many processes (or Ray workers) as there are; deduplication
compares their traces on disk; then each shard is written without what goes. Memory holds what each
worker's shard takes, and of all rows numbers only (docs/scale.md): verdicts and texts stay on disk.
What is interrupted goes on after the last whole shard.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.curate_figures import Drop, Tally, figures_of, with_judge
from pipelines.curate_settings import CurateSettings
from pipelines.dedup import duplicates_among
from pipelines.dedup_index import kept_earlier
from pipelines.judge_shards import Row, ShardJudging, judge_of, verdict_schema
from pipelines.llm_judge import ask_judge
from pipelines.near import Resemblance, alike_share
from pipelines.portrait import ALIKE
from pipelines.spread import Spread, here
from pipelines.surplus import Between, surplus_of, tellable_of
from pipelines.traces import Part
from usersim.conversation import Conversation, Rejection, conversation_schema, rejection_schema
from usersim.errors import InputError
from usersim.files import growing_table, write_conversations
from usersim.progress import track
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


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
        told = self._ask_judge(shards)
        tasks = [self._judging(number, path, told) for number, path in enumerate(shards)]
        with nullcontext(spread) if spread else here(len(shards), sum(num_rows)) as work:
            tally = Tally(self.settings.memory, mended=_judge_all(tasks, num_rows, work))
            passed = [task.passed() for task in tasks]
            kept, gone = self._sifted(tasks, passed, work)
            duplicates = self._duplicates(tasks, kept, work)
        num_kept = self._write(tasks, [len(each) for each in passed], gone, tally)
        judge = judge_of(self.settings.model_dump_json(), self.people, tasks[0].scores)
        figures = figures_of(tally, num_kept, duplicates, judge.witnesses, rates)
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

    def _sifted(
        self,
        tasks: Sequence[ShardJudging],
        passed: "Sequence[NDArray[np.bool_]]",
        spread: Spread,
    ) -> "tuple[NDArray[np.bool_], list[Between]]":
        """What stays of what the rules let pass, by place, and why the rest goes.

        Duplicates go first, then what is too much of. A place is a conversation's number when the
        shards are laid end to end.
        """
        import numpy as np

        dedup, balance = self.settings.dedup, self.settings.balance
        old = kept_earlier(dedup.against, dedup.shape)
        before = sum(part.num_rows for part in old)
        kept, parts = np.concatenate([np.ones(before, dtype=bool), *passed]), _parts(tasks)
        found = duplicates_among([*old, *parts], dedup, spread, kept)
        kept[found.places] = False
        kept = kept[before:]

        def duplicates(start: int, stop: int) -> dict[int, Drop]:
            drops = found.between(start + before, stop + before)
            return {place - before: Drop.for_duplicate(each) for place, each in drops.items()}

        gone, surplus = surplus_of(tasks, np.flatnonzero(kept), self.settings, self.people, spread)
        kept[gone] = False
        share = balance.drop_most_tellable
        gone, tellable = tellable_of(tasks, np.flatnonzero(kept), share, self.people)
        kept[gone] = False
        return kept, [duplicates, surplus, tellable]

    def _duplicates(
        self, tasks: Sequence[ShardJudging], kept: "NDArray[np.bool_]", spread: Spread
    ) -> dict[str, float | None]:
        """The share of conversations whose user side is alike to another's, before and after."""
        import numpy as np

        shape = Shingling(self.settings.dedup.shingle_words)
        alike = Resemblance(
            "user_side", ALIKE, 0.0, shape, recall=0.99
        )  # .999 proposes ten times more
        sides = {"before": np.ones_like(kept), "after": kept}
        parts = _parts(tasks)
        return {name: alike_share(parts, alike, side, spread) for name, side in sides.items()}

    def _write(
        self,
        tasks: Sequence[ShardJudging],
        sizes: Sequence[int],
        gone: Sequence[Between],
        tally: Tally,
    ) -> int:
        """Write everything, shard by shard, and count it; returns how many are kept."""
        num_kept, start, schema = 0, 0, _verdict_table()
        verdicts = self.curated / "verdicts" / "verdicts.parquet"
        with (
            track("curated", total=len(tasks), unit="shards") as bar,
            growing_table(verdicts, schema) as add_verdicts,
            growing_table(self.rejected, rejection_schema()) as add_rejected,
        ):
            for task, size in zip(tasks, sizes, strict=True):
                drops: dict[int, Drop] = {}
                for between in gone:
                    drops |= between(start, start + size)
                sorted_ = _Sorted.of(task, drops, start, tally)
                write_conversations(self.curated / task.path.name, sorted_.kept)
                add_verdicts(sorted_.verdicts)
                add_rejected(map(asdict, sorted_.rejected))
                num_kept, start = num_kept + len(sorted_.kept), start + size
                bar.advance()
        written = {self.curated / task.path.name for task in tasks}
        for stale in set(self.curated.glob("part-*.parquet")) - written:
            stale.unlink()
        for task in tasks:  # first, for what is half removed must not pass for judged
            task.mark.unlink()
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


def _judge_all(
    tasks: Sequence[ShardJudging], num_rows: Sequence[int], spread: Spread
) -> Counter[str]:
    """What was mended, by kind."""
    mended = Counter[str]()
    with track("curate", total=sum(num_rows), unit="conversations") as bar:
        for rows, found in zip(num_rows, spread(ShardJudging.judge, tasks), strict=True):
            mended += found
            bar.advance(rows)
    return mended


def _parts(tasks: Sequence[ShardJudging]) -> list[Part]:
    return [task.part for task in tasks]


@dataclass(slots=True)
class _Sorted:
    """A shard's rows: what is kept, what is not, and every verdict."""

    kept: list[Conversation]
    rejected: list[Rejection]
    verdicts: list[Row]

    @classmethod
    def of(
        cls, task: ShardJudging, drops: Mapping[int, Drop], start: int, tally: Tally
    ) -> "_Sorted":
        """Each row of a shard whose first place is `start`, counted as well."""
        found, place = cls([], [], []), start
        conversations = iter(task.conversations())
        for row in task.verdicts():
            drop = Drop(row["stage"], row["reason"], row["detail"]) if row["reason"] else None
            if row["is_conversation"]:
                drop, place = drop or drops.get(place), place + 1
                found._enter(row, next(conversations), drop)
            elif drop:
                why = (drop.stage, drop.reason, drop.detail)
                found.rejected.append(Rejection(row["id"], *why, row["record"]))
            tally.add(row, drop)
        return found

    def _enter(self, row: Row, conversation: Conversation, drop: Drop | None) -> None:
        self.verdicts.append(row | {"dropped_for": drop.reason if drop else None})
        if drop is None:
            self.kept.append(conversation)
            return
        if twin := drop.duplicate:
            told = {"duplicate_of": twin.kept_id, "cluster": twin.cluster}
            self.verdicts[-1] |= told | {"similarity": twin.similarity}
        self.rejected.append(Rejection.of(conversation, drop.stage, drop.reason, drop.detail))


def _verdict_table() -> "pa.Schema":
    import pyarrow as pa

    text = pa.string()
    columns = [("dropped_for", text), ("duplicate_of", text), ("cluster", text)]
    return pa.schema([*verdict_schema(), *pa.schema([*columns, ("similarity", pa.float64())])])
