"""A run's corpus in the layouts that other trainers read, as one file, whole or absent.

    sharegpt   one JSON list of {id, conversations: [{from: human|gpt|system, value}], ...}
    openai     JSON lines of {messages: [{role, content}]} and nothing else
    chatml     JSON lines of {text}, each turn between <|im_start|> and <|im_end|>
    parquet    all columns of the corpus, messages first

The first two and Parquet can be read back by `ingest.source=FILE`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from usersim.conversation import Conversation, conversation_schema
from usersim.errors import InputError
from usersim.files import whole_file

_SHAREGPT_NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
_START, _END = "<|im_start|>", "<|im_end|>"
_BATCH = 512  # conversations in memory at once


@dataclass(slots=True)
class Exported:
    """What was written."""

    path: Path
    conversations: int = 0
    left_out: list[str] = field(default_factory=list)
    """Ids of conversations that the layout cannot hold."""


def export(run: Path, layout: str, out: Path, split: str = "train") -> Exported:
    """Write one split of a run's corpus to `out`, in the order of the corpus.

    ChatML has no way to quote its own marks, so conversations that contain them are left out.

    Args:
        run: The run's folder.
        layout: sharegpt, openai, chatml or parquet.
        out: The file to write; an earlier one is replaced once the new one is whole.
        split: Split of the corpus.

    Raises:
        InputError: an unknown layout or split, no corpus, or a path that cannot be written to.
        WorldError: the disk refuses; an earlier file then stays as it was.
    """
    if layout not in LAYOUTS:
        raise InputError(f"no format {layout!r}; the formats are {', '.join(LAYOUTS)}")
    shards = _shards(run, split)
    _check_place(run, out)
    done = Exported(out)
    with whole_file(out) as temporary:
        LAYOUTS[layout](_holdable(_rows(shards), layout, done), temporary)
    return done


def _shards(run: Path, split: str) -> list[Path]:
    data = run / "corpus" / "data"
    shards = sorted(data.glob("*.parquet"))
    if not shards:
        raise InputError(
            f"no corpus in {run}: `realchat corpus --run {run}` makes it, and `realchat run` "
            "everything before it"
        )
    names = {path: path.name.partition("-")[0] for path in shards}
    found = [path for path in shards if names[path] == split]
    if not found:
        known = ", ".join(sorted(set(names.values())))
        raise InputError(f"the corpus in {run} has no split {split!r}; it has {known}")
    return found


def _check_place(run: Path, out: Path) -> None:
    if out.is_dir():
        raise InputError(f"{out} is a folder: name a file in it, --out {out / 'corpus.json'}")
    around = out.resolve().parents
    if out.exists() and run.resolve() in around:
        raise InputError(f"{out} is a file of the run itself: name another with --out")
    if (run / "corpus").resolve() in around:  # it would be read and published as part of that
        raise InputError(f"{out} would lie in the corpus itself: name another folder with --out")


def _rows(shards: Iterable[Path]) -> Iterator[Conversation]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in shards:
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
                yield from map(Conversation.from_row, batch.to_pylist())
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise InputError(f"cannot read the corpus in {path}: {error}") from error


def _holdable(rows: Iterable[Conversation], layout: str, done: Exported) -> Iterator[Conversation]:
    """The conversations that the layout can hold; counts them and notes the others."""
    for conversation in rows:
        if layout == "chatml" and _has_marks(conversation):
            done.left_out.append(conversation.id)
            continue
        done.conversations += 1
        yield conversation


def _has_marks(conversation: Conversation) -> bool:
    return any(mark in m.content for m in conversation.messages for mark in (_START, _END))


def _sharegpt(rows: Iterable[Conversation], path: Path) -> None:
    """One list, a record a line, so that people can look at it and programs can stream it."""
    with path.open("w", encoding="utf-8") as handle:
        separator = "[\n"
        for row in rows:
            handle.write(separator + _json(_sharegpt_record(row)))
            separator = ",\n"
        handle.write("\n]\n" if separator != "[\n" else "[]\n")


def _sharegpt_record(row: Conversation) -> dict[str, Any]:
    turns = [{"from": _SHAREGPT_NAMES[m.role], "value": m.content} for m in row.messages]
    lineage = {"source": row.source, "license": row.license, "stop_reason": row.stop_reason}
    # Without `scraped` a reader would take it for a copy of web pages and clean it as such.
    return {"id": row.id, "conversations": turns, "scraped": False} | {
        key: value for key, value in lineage.items() if value
    }


def _openai(rows: Iterable[Conversation], path: Path) -> None:
    with path.open("w", encoding="utf-8") as handle:
        _write_lines(handle, ({"messages": row.to_row()["messages"]} for row in rows))


def _chatml(rows: Iterable[Conversation], path: Path) -> None:
    with path.open("w", encoding="utf-8") as handle:
        _write_lines(handle, ({"text": chatml_text(row)} for row in rows))


def chatml_text(row: Conversation) -> str:
    """A conversation as ChatML writes it, with a newline behind every turn."""
    return "".join(f"{_START}{m.role}\n{m.content}{_END}\n" for m in row.messages)


def _parquet(rows: Iterable[Conversation], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = conversation_schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            table = pa.Table.from_pylist([row.to_row() for row in batch], schema=schema)
            writer.write_table(table)


def _batches(rows: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    batch: list[Conversation] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_lines(handle: IO[str], records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        handle.write(_json(record) + "\n")


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


LAYOUTS: dict[str, Callable[[Iterable[Conversation], Path], None]] = {
    "sharegpt": _sharegpt,
    "openai": _openai,
    "chatml": _chatml,
    "parquet": _parquet,
}
"""How each layout is written to a path."""
