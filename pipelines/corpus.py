"""The corpus stage: curated conversations into Parquet splits with a dataset card, ready to load.

    curated/part-*.parquet -> corpus/data/{train,test}-00000-of-0000N.parquet
                              corpus/{rejected,lineage}/train-00000-of-0000N.parquet
                              corpus/README.md

`datasets.load_dataset("runs/demo/corpus")` gives both splits; column `messages` is what TRL trains
on. The same input gives the same bytes, whatever the order of its rows; the data folder is swapped
in as a whole, so no shard of an earlier build stays behind.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipelines.card import render_card
from pipelines.subsets import Subset, lineage_table, rejected_rows, rejected_table
from usersim.conversation import conversation_schema
from usersim.errors import InputError, WorldError
from usersim.files import ROWS_AT_ONCE, fingerprint, write_table, write_text
from usersim.neardup import clusters, near_duplicate_pairs
from usersim.settings import Settings
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import pyarrow as pa


class CorpusSettings(Settings):
    """What the published corpus is called and how it is split."""

    name: str = Field(
        "RealChat demo", pattern=r"^[^\n\r]{1,100}$", description="the dataset's name on its card"
    )
    license: str = Field(
        "unknown",
        pattern=r"^[^\n\r]{1,100}$",
        description="license the corpus is published under, as the Hub spells it (cc-by-4.0 ...)",
    )
    languages: tuple[str, ...] = Field(("en",), description="ISO 639 codes for the card")
    test_share: float = Field(0.1, ge=0, lt=1, description="share of conversations held out")
    min_test: int = Field(
        20, ge=0, description="conversations to hold out at least (at most half of them)"
    )
    split_threshold: float = Field(
        0.6, gt=0, le=1, description="openers this similar (Jaccard) go to the same split"
    )
    subsets: tuple[Subset, ...] = Field(
        ("rejected", "lineage"),
        description="published beside the conversations: what was thrown away and why (no text"
        " that must not be shown), and where each row comes from with its verdicts",
    )
    max_shard_bytes: int = Field(
        256 * 2**20, ge=1024, description="size of a data file in memory before compression"
    )


def build_corpus(
    settings: CorpusSettings, curated: Path, rejected: Path, out: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write `out/data/*.parquet` and `out/README.md`; returns the stage's figures.

    Args:
        settings: Name, license and split of the corpus.
        curated: Folder of `part-*.parquet` shards.
        rejected: Rejected rows, a file or a folder of them, counted on the card; may be absent.
        out: The corpus folder.
        facts: What made the corpus, for the card; every key may be absent: `recipe` (fingerprint),
            `seed`, `models` (role -> name), `versions` (package -> version), `funnel` (list of
            FunnelStage dicts), `figures` (label -> value), `fidelity` (FidelityRows), `charts`
            (turn -> SVG of its lengths beside people's), `revisions` (name -> content hash).

    Raises:
        InputError: nothing was curated, or a shard is not ours.
        WorldError: the disk refuses; an earlier corpus then stays as it was.
    """
    table = curated_table(curated)
    texts = table.select(["id", "messages"]).to_pylist()
    held_out = test_ids(
        [row["id"] for row in texts], [_opener(row["messages"]) for row in texts], settings
    )
    splits = _split(table, held_out)
    with whole_folder(out / "data") as folder:
        for name, split in splits.items():
            _write_shards(split, folder, name, settings.max_shard_bytes)
        figures = {
            "conversations": table.num_rows,
            "splits": {name: split.num_rows for name, split in splits.items()},
            "split_bytes": {name: split.nbytes for name, split in splits.items()},
            "license": settings.license,
            "shards": len(list(folder.iterdir())),
            "bytes": sum(path.stat().st_size for path in folder.iterdir()),
            **corpus_statistics(table),
        }
    subsets: dict[str, Callable[[], pa.Table]] = {
        "rejected": lambda: rejected_table(rejected, curated),
        "lineage": lambda: lineage_table(table, held_out, curated),
    }
    figures["subsets"] = {
        name: _write_subset(make() if name in settings.subsets else None, out / name, settings)
        for name, make in subsets.items()
    }
    dropped = dict(Counter(row["reason"] for row in rejected_rows(rejected)).most_common())
    shutil.rmtree(out / "images", ignore_errors=True)
    for turn, svg in facts.get("charts", {}).items():
        write_text(out / "images" / f"words-{turn}-turn.svg", svg)
    card = render_card(settings, figures, facts | {"dropped": dropped}, texts)
    write_text(out / "README.md", card)
    return figures


def test_ids(ids: Sequence[str], openers: Sequence[str], settings: CorpusSettings) -> set[str]:
    """Ids of the held-out conversations: whole clusters of similar openers, by a stable hash.

    At least `min_test` or `test_share` of them, but never more than half; the choice depends on
    the ids and openers alone, not on their order. One conversation alone is not held out.
    """
    pairs = near_duplicate_pairs(openers, settings.split_threshold, Shingling(3))
    groups = [sorted(ids[i] for i in group) for group in clusters(len(ids), pairs)]
    groups.sort(key=lambda group: fingerprint(["split", group[0]]))
    wanted = min(max(settings.min_test, round(settings.test_share * len(ids))), len(ids) // 2)
    held_out: set[str] = set()
    for group in groups:
        if len(held_out) + len(group) <= wanted:
            held_out.update(group)
    return held_out


test_ids.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`.

    Raises WorldError when the disk refuses, leaving what was there before.
    """
    staging, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    try:
        for leftover in (staging, old):
            if leftover.exists():
                shutil.rmtree(leftover)
        staging.mkdir(parents=True)
        yield staging
        if path.exists():
            path.rename(old)
        staging.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise WorldError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def curated_table(folder: Path) -> "pa.Table":
    """All curated rows, ordered by a hash of their id (so that order carries no meaning)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = sorted(folder.glob("part-*.parquet"))
    try:
        tables = [pq.read_table(path, schema=conversation_schema()) for path in shards]
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"cannot read the conversations in {folder}: {error}") from error
    if not sum(table.num_rows for table in tables):
        raise InputError(
            f"no curated conversations in {folder}: run `realchat curate`; if it kept none, its "
            "rejected rows say why"
        )
    table = pa.concat_tables(tables)
    ids = table.column("id").to_pylist()
    return in_order(table, sorted(range(len(ids)), key=lambda i: fingerprint(ids[i])))


def in_order(table: "pa.Table", rows: Sequence[int]) -> "pa.Table":
    """The rows at these places, in their order.

    `Table.take` lays all texts end to end first, and Arrow's `string` counts bytes in 32 bits: with
    more than 2 GiB it fails. So do it on `large_string`, and go back in portions.
    """
    import pyarrow as pa

    fields = [field.with_type(_large(field.type)) for field in table.schema]
    wide = table.cast(pa.schema(fields)).combine_chunks()
    starts = range(0, len(rows), ROWS_AT_ONCE)
    portions = [wide.take(rows[start : start + ROWS_AT_ONCE]) for start in starts]
    return pa.concat_tables([portion.cast(table.schema) for portion in portions])


def _large(kind: "pa.DataType") -> "pa.DataType":
    """The type with 64-bit offsets wherever it holds text or lists."""
    import pyarrow as pa

    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_list(kind):
        return pa.large_list(_large(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_large(field.type)) for field in kind])
    return kind


def _opener(messages: Sequence[dict[str, str]]) -> str:
    return next((m["content"] for m in messages if m["role"] == "user"), "")


def _split(table: "pa.Table", held_out: set[str]) -> dict[str, "pa.Table"]:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_test = pa.array([row_id in held_out for row_id in table.column("id").to_pylist()])
    splits = {"train": table.filter(pc.invert(is_test)), "test": table.filter(is_test)}
    return {name: split for name, split in splits.items() if split.num_rows}


def _write_shards(table: "pa.Table", folder: Path, split: str, max_bytes: int) -> None:
    num_shards = min(-(-table.nbytes // max_bytes), table.num_rows)
    size = -(-table.num_rows // num_shards)
    starts = range(0, table.num_rows, size)
    for number, start in enumerate(starts):
        name = f"{split}-{number:05d}-of-{len(starts):05d}.parquet"
        write_table(folder / name, table.slice(start, size))


def _write_subset(
    table: "pa.Table | None", folder: Path, settings: CorpusSettings
) -> dict[str, int] | None:
    """Its rows and sizes; None, and no folder, where there is nothing to write."""
    if table is None or not table.num_rows:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with whole_folder(folder) as staging:
        _write_shards(table, staging, "train", settings.max_shard_bytes)
        size = sum(path.stat().st_size for path in staging.iterdir())
    return {"rows": table.num_rows, "num_bytes": table.nbytes, "bytes": size}


def corpus_statistics(table: "pa.Table") -> dict[str, Any]:
    """Rounds, words by role, stop reasons, and where the rows come from."""
    rounds: list[int] = []
    words: dict[str, list[int]] = {"user": [], "assistant": []}
    for messages in table.column("messages").to_pylist():
        rounds.append(sum(m["role"] == "assistant" for m in messages))
        for message in messages:
            words.setdefault(message["role"], []).append(len(message["content"].split()))
    origins = Counter(
        zip(table.column("source").to_pylist(), table.column("license").to_pylist(), strict=True)
    )
    return {
        "rounds_mean": round(mean(rounds), 2),
        "rounds_max": max(rounds),
        "user_words_median": median(words["user"]),
        "assistant_words_median": median(words["assistant"] or [0]),
        "stop_reasons": _counts(table, "stop_reason"),
        "models": {role: list(_counts(table, f"{role}_model")) for role in ("user", "assistant")},
        "sources": [
            {"source": source or "", "license": license or "", "conversations": count}
            for (source, license), count in origins.most_common()
        ],
    }


def _counts(table: "pa.Table", column: str) -> dict[str, int]:
    values = Counter(value for value in table.column(column).to_pylist() if value)
    return dict(values.most_common())
