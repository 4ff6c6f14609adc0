"""Files to records: Parquet, JSON lines, one JSON list or object; packed with gzip or not.

A record that cannot be read comes with its reason; only a file that cannot be read at all is an
error.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from usersim.errors import InputError
from usersim.sources.draft import BadRecord, Raw, printable
from usersim.sources.json_list import list_records

_DATA = re.compile(r"\.(?:(?:json|jsonl|ndjson)(?:\.(?:gz|zst|bz2|xz))?|parquet)$", re.IGNORECASE)
_UNREADABLE = {
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it first",  # RFC 8878
    b"BZh": "packed by bzip2: unpack it first",
    b"\xfd7zXZ\x00": "packed by xz: unpack it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\xff\xfe": "UTF-16, as Windows PowerShell writes it: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
}
"""What a file of another format begins with, and what the caller can do."""
_MAX_OBJECT = 16 << 20  # bytes of a first object that may stand on several lines


def data_files(path: Path) -> list[Path]:
    """The data files that a path stands for. Raises InputError when there are none."""
    try:
        if not path.exists():
            raise InputError(
                f"no source at {path}: give a file, a folder, hub:OWNER/NAME, or sharegpt "
                "(the embedded conversations)"
            )
        if not path.is_dir():
            return [path]
        found = sorted(p for p in path.iterdir() if _DATA.search(p.name) and p.is_file())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not found:
        raise InputError(
            f"no .json, .jsonl, .ndjson (or these with .gz) or .parquet file in {path}"
        )
    return found


def stem_of(path: Path) -> str:
    """A file's name, fit to be written, without the endings that tell its format."""
    ending = _DATA.search(path.name)
    return printable(path.name[: ending.start()] if ending else path.stem)


def raw_records(path: Path) -> Iterator[Raw]:
    """The records of one file, whatever its name says.

    Raises InputError when the file is empty, of another format, or cannot be opened.
    """
    try:
        with _opened(path) as handle:
            head = handle.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
            handle.seek(0)
            if not head:
                raise InputError(f"{path} is empty: there is nothing to read")
            for magic, remedy in _UNREADABLE.items():
                if head.startswith(magic):
                    raise InputError(f"{path} is {remedy}")
            if head.startswith(b"PAR1"):
                yield from _parquet_records(path)
            else:
                is_list = head.startswith(b"[") or _spans_lines(handle)
                parse = list_records if is_list else _line_records
                for raw in parse(handle, stem_of(path)):
                    yield from _unpacked(raw) if head.startswith(b"{") else (raw,)
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} is no whole gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked when they are gzip's (magic number 1f 8b, RFC 1952)."""
    with path.open("rb") as plain:
        is_packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        if not is_packed:
            yield plain
            return
        with gzip.open(plain) as unpacked:
            yield unpacked  # type: ignore[misc]


def _parquet_records(path: Path) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                yield Raw(f"{stem_of(path)}-{number}", row)
                number += 1
    except (pa.ArrowException, ValueError, OverflowError) as error:  # a time that no calendar has
        raise InputError(f"cannot read {path} as Parquet after row {number}: {error}") from error


def _line_records(handle: IO[bytes], stem: str) -> Iterator[Raw]:
    for number, line in enumerate(handle):
        if not line.strip():
            continue
        name = f"{stem}-{number}"
        text = line.decode("utf-8", "backslashreplace").strip()
        try:
            yield Raw(name, json.loads(line.decode("utf-8-sig")))
        except UnicodeDecodeError as error:
            yield Raw(name, text, BadRecord("not_utf8", str(error)))
        except (ValueError, RecursionError) as error:
            detail = f"{error}; wanted is a record a line, or one JSON list"
            yield Raw(name, text, BadRecord("not_json", detail))


def _spans_lines(handle: IO[bytes]) -> bool:
    """Whether the file begins with an object of several lines, as an indented one is."""
    text = handle.read(_MAX_OBJECT).decode("utf-8-sig", "surrogateescape").lstrip()
    handle.seek(0)
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return "\n" in text[:end]


def _unpacked(raw: Raw) -> Iterator[Raw]:
    """The records in `{"data": [...]}`, which some programs wrap around a list; else the record.

    Objects of plain values alone are the messages of one conversation, and stay together.
    """
    is_alone = isinstance(raw.value, dict) and raw.value.keys() == {"data"}
    inner = raw.value["data"] if is_alone else None
    if not isinstance(inner, list) or not any(map(_holds_messages, inner)):
        yield raw
        return
    for number, value in enumerate(inner):
        yield Raw(f"{raw.name}.{number}", value)


def _holds_messages(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(v, list | dict) for v in value.values())
