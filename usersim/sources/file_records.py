"""Files to records: Parquet, one JSON list, or JSON lines; packed with gzip or not.

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
from typing import IO

from usersim.errors import InputError
from usersim.sources.draft import BadRecord, Raw

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_BLOCK = 4 << 20  # bytes read at once
_MAX_TAIL_CHARS = 1_000_000  # how much of an unreadable tail its rejection keeps


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
        found = sorted(p for p in path.iterdir() if p.name.endswith(_SUFFIXES) and p.is_file())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not found:
        raise InputError(f"no {', '.join(_SUFFIXES)} file in {path}")
    return found


def stem_of(path: Path) -> str:
    """A file's name without the endings that tell its format."""
    ending = next((s for s in sorted(_SUFFIXES, key=len) if path.name.endswith(s)), path.suffix)
    return path.name.removesuffix(ending)


def raw_records(path: Path) -> Iterator[Raw]:
    """The records of one file, whatever its name says.

    Raises InputError when the file is empty or cannot be opened.
    """
    try:
        with _opened(path) as handle:
            head = handle.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
            handle.seek(0)
            if not head:
                raise InputError(f"{path} is empty: there is nothing to read")
            if head.startswith(b"PAR1"):
                yield from _parquet_records(path)
            else:
                parse = _list_records if head.startswith(b"[") else _line_records
                yield from parse(handle, stem_of(path))
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
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
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
            yield Raw(name, text, BadRecord("not_json", str(error)))


def _list_records(handle: IO[bytes], stem: str) -> Iterator[Raw]:
    """The values of one JSON list, however long: only one block and one record are in memory.

    Where the text stops being JSON the rest of the file is one bad record.
    """
    # Bytes that are not UTF-8 become lone surrogates, which `_draft` will refuse.
    decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
    scan = json.JSONDecoder().raw_decode
    text = decode(handle.read(_BLOCK)).lstrip().removeprefix("[")
    position, number, block = 0, 0, _BLOCK
    while True:
        try:
            value, position = scan(text, _skip_separators(text, position))
        except (ValueError, RecursionError):
            data = handle.read(block)
            if not data:
                break
            text, position = text[position:] + decode(data), 0
            block *= 2  # a record longer than a block is not scanned again for every block
            continue
        yield Raw(f"{stem}-{number}", value)
        number, block = number + 1, _BLOCK
    rest = text[_skip_separators(text, position) :].strip()
    if rest not in ("]", ""):
        yield _broken_tail(f"{stem}-{number}", rest)


def _skip_separators(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,":
        position += 1
    return position


def _broken_tail(name: str, rest: str) -> Raw:
    """The rest of a list that is no JSON: cut off where it ends, or broken in its middle."""
    try:
        json.loads(rest)
    except json.JSONDecodeError as error:
        # What stands at the error is nothing, or the beginning of true, false, null or a number.
        begun = re.fullmatch(r"[a-z]{0,4}|-", rest[error.pos :])
        cut = begun or error.msg.startswith("Unterminated")
        reason, detail = "truncated_json" if cut else "not_json", str(error)
    except RecursionError as error:
        reason, detail = "not_json", str(error)
    else:
        reason, detail = "truncated_json", "the list is not closed"
    found = re.search(r'"id"\s*:\s*"([^"]+)"', rest[:1000])
    return Raw(found[1] if found else name, rest[:_MAX_TAIL_CHARS], BadRecord(reason, detail))
