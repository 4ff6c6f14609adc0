"""Files that are either whole or absent (temporary name, fsync, rename); Parquet and JSON."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersim.conversation import (
    Conversation,
    Rejection,
    conversation_schema,
    rejection_schema,
)
from usersim.errors import InputError, WorldError
from usersim.faults import fault_point

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 1024  # in memory, and in one of the file's groups: some MB of conversations


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and takes the final name.

    Raises WorldError when the disk refuses (full, read-only), leaving the final name as it was.
    """
    # Containers that share a folder share process ids too.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        fault_point("file.written")
        _sync(temporary)
        fault_point("file.synced")
        temporary.replace(path)
        fault_point("file.renamed")
        _sync(path.parent)
    except OSError as error:
        raise WorldError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # an error of its own would hide the one above
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left unfinished; for when nobody writes there."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises InputError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as JSON: {error}") from error


def write_table(path: Path, table: "pa.Table") -> None:
    """Write a Parquet file (zstd), whole or not at all."""
    import pyarrow.parquet as pq

    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_rows(
    path: Path,
    schema: "pa.Schema",
    rows: Iterable[dict[str, Any]],
    footer: Callable[[], dict[str, str]] = dict,
) -> None:
    """Write rows to one Parquet file, `ROWS_AT_ONCE` of them in memory.

    `footer` is asked after the last row for what shall stand in the file's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    left = iter(rows)
    with (
        whole_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        while batch := list(islice(left, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        writer.add_key_value_metadata(footer())


@contextmanager
def growing_table(
    path: Path, schema: "pa.Schema"
) -> Iterator[Callable[[Iterable[dict[str, Any]]], None]]:
    """Yield what appends rows to a Parquet file, which is whole at the end or absent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        whole_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        yield lambda rows: writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))


def write_mappable(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write conversations as an Arrow file: larger, but single rows are read without the rest."""
    import pyarrow as pa

    table = pa.Table.from_pylist([c.to_row() for c in conversations], conversation_schema())
    with whole_file(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def read_mappable(path: Path) -> list[Conversation]:
    """The conversations that `write_mappable` wrote."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    return [Conversation.from_row(row) for row in rows]


def column_at(path: Path, name: str) -> "pa.ChunkedArray":
    """A column of a Parquet file, or of an Arrow file: that one is mapped and not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return pq.read_table(path, columns=[name])[name]
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()[name]


def num_rows_of(path: Path) -> int:
    """How many rows a Parquet file has, by its footer."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def write_conversations(
    path: Path,
    conversations: Iterable[Conversation],
    footer: Callable[[], dict[str, str]] = dict,
) -> None:
    """Write conversations to one Parquet file, a group of them in memory."""
    write_rows(path, conversation_schema(), (c.to_row() for c in conversations), footer)


def read_footer(path: Path, key: str) -> str | None:
    """What a writer's `footer` left under this key; None when it left nothing there.

    Raises InputError when the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            found = (file.metadata.metadata or {}).get(key.encode())
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read {path} as Parquet: {error}") from error
    return None if found is None else str(found, "utf-8")


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a Parquet file. Raises InputError when it is missing or not ours."""
    return [_conversation(path, number, row) for number, row in enumerate(read_rows(path))]


def _conversation(path: Path, number: int, row: dict[str, Any]) -> Conversation:
    if missing := {"id", "messages"} - row.keys():
        columns = " and no ".join(sorted(missing))
        raise InputError(f"{path} holds no conversations of ours: it has no column {columns}")
    if not isinstance(row["id"], str):
        raise InputError(f"{path}, row {number}: the id {row['id']!r} is no text", "missing_id")
    try:
        return Conversation.from_row(row)
    except InputError as error:
        message, *reason = error.args
        raise InputError(f"{path}, row {number}: {message}", *reason) from error


def is_ours(path: Path) -> bool:
    """Whether `write_conversations` wrote the file, and nobody has added columns since.

    Other Parquet files with the same columns are somebody's records, to be read as a source.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        return False
    known = conversation_schema()
    is_marked = not (known.metadata or {}).keys() - (found.metadata or {}).keys()
    return is_marked and set(found.names) <= set(known.names)


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write rejected records to one Parquet file, a group of them in memory."""
    write_rows(path, rejection_schema(), map(asdict, rejections))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a Parquet file. Raises InputError when it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read {path} as Parquet: {error}") from error
    return rows


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """A stable 16-digit hash of a JSON-like value, the same on every machine, in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
