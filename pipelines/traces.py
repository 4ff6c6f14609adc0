"""What deduplication remembers of conversations: a row each, on disk, without the texts.

A part is one file of conversations and, elsewhere, its traces: a table (ids, contents, what the
keep rule looks at), read column by column, and for each unit a matrix of MinHash signatures
(`.npy`, memory-mapped when read, never unpickled). Traces of what a run kept lie in its
`curated/index`: that is the index which later runs are deduplicated against.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.semantic import EMBEDDING, SemanticSettings, embed
from usersim.conversation import Conversation
from usersim.files import column_at, fingerprint, num_rows_of, whole_file, write_table
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

Turns = Sequence[tuple[str, str]]
"""(role, text) of a conversation, without the system message."""


def _user_side(turns: Turns) -> str:
    return "\n".join(text for role, text in turns if role == "user")


def _opener(turns: Turns) -> str:
    return turns[0][1]


UNITS: dict[str, Callable[[Turns], str]] = {
    "opener": _opener,
    "first_round": lambda turns: "\n".join(text for _, text in turns[:2]),
    "user_side": _user_side,
    "dialogue": lambda turns: "\n".join(text for _, text in turns),
}
"""What two conversations are compared by."""

ALWAYS = ("opener", "user_side")  # exact repeats of these are always looked for
SMALL = 4096  # bytes: such a matrix is read, a larger one mapped
NUM_PERM = 128  # values of a signature: what every banding of `Banding.for_threshold` fits into

USER_PART = {"first_round": "opener", "dialogue": "user_side"}
"""What the user said of a unit in which the assistant speaks too."""


@dataclass(frozen=True, slots=True)
class TraceShape:
    """Which units are sketched and how; traces of other shapes cannot be compared."""

    shingling: Shingling
    units: tuple[str, ...] = ALWAYS
    semantic: SemanticSettings = field(default_factory=SemanticSettings)

    @property
    def print(self) -> str:
        """The same for traces that can be compared."""
        told = ["traces 2", self.shingling.words, NUM_PERM, self.units]
        embedded = [self.semantic.model, self.semantic.unit] if self.semantic.model else []
        return fingerprint(told + embedded)

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices that such traces have."""
        return (*self.units, *([EMBEDDING] if self.semantic.model else []))


@dataclass(frozen=True, slots=True)
class Traces:
    """The traces of one part."""

    table: "pa.Table"
    """`id`, `id_hash`, `record`, `faults`, and for each unit `UNIT` (contents) and `UNIT_words`."""
    signatures: "dict[str, NDArray[Any]]"
    """By unit, one row a conversation; `embedding`, where it is asked: vectors of length one."""
    turns: Callable[[Sequence[int]], list[Turns]]
    """The turns of some rows, from wherever they are."""
    is_old: bool = False
    """Kept earlier: such rows stay whatever comes."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @classmethod
    def of(
        cls, conversations: Sequence[Conversation], faults: Sequence[int], shape: TraceShape
    ) -> "Traces":
        """Made of conversations; `faults` counts what the rules have against each."""
        import pyarrow as pa

        turns: list[Turns] = [[(m.role, m.content) for m in c.turns] for c in conversations]
        columns: dict[str, Any] = {
            "id": pa.array([c.id for c in conversations], pa.string()),
            "id_hash": pa.array([int(fingerprint(c.id), 16) for c in conversations], pa.uint64()),
            # Decides between two records of one id.
            "record": pa.array(
                [int(fingerprint(c.to_row()), 16) for c in conversations], pa.uint64()
            ),
            "faults": pa.array(faults, pa.int32()),
        }
        signatures: dict[str, NDArray[Any]] = {}
        for unit in (name for name in UNITS if name in shape.units):
            texts = [UNITS[unit](each) for each in turns]
            sketches = shape.shingling.sketches(texts, NUM_PERM)
            columns |= {unit: sketches.contents, f"{unit}_words": sketches.num_words}
            signatures[unit] = sketches.signatures
        if shape.semantic.model:
            said = [UNITS[shape.semantic.unit](each) for each in turns]
            signatures[EMBEDDING] = embed(said, shape.semantic.model)
        return cls(pa.table(columns), signatures, lambda rows: [turns[i] for i in rows])

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self)

    def column(self, name: str) -> "pa.ChunkedArray":
        """A column of the table."""
        return self.table[name]

    def matrix(self, unit: str) -> "NDArray[Any]":
        """The signatures of one unit."""
        return self.signatures[unit]

    def kept_earlier(self) -> "Traces":
        """The same, as rows that stay."""
        return replace(self, is_old=True)

    def write(self, stem: Path) -> None:
        """Write `STEM.parquet` and a `STEM.UNIT.npy` for each unit."""
        import numpy as np

        for unit, matrix in self.signatures.items():
            with whole_file(Path(f"{stem}.{unit}.npy")) as temporary, temporary.open("wb") as file:
                np.save(file, matrix, allow_pickle=False)
        write_table(Path(f"{stem}.parquet"), self.table)  # last: what is there is whole


@dataclass(frozen=True, slots=True)
class Part:
    """One file of conversations (Parquet, or Arrow that is mapped), and its traces' stem."""

    texts: Path
    stem: Path
    is_old: bool = False

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return num_rows_of(self._table)

    def column(self, name: str) -> "pa.ChunkedArray":
        """A column of the table, read alone."""
        import pyarrow.parquet as pq

        return pq.read_table(self._table, columns=[name])[name]

    @property
    def _table(self) -> Path:
        return Path(f"{self.stem}.parquet")

    def matrix(self, unit: str) -> "NDArray[Any]":
        """The signatures of one unit, memory-mapped; the table is not read."""
        return _mapped(Path(f"{self.stem}.{unit}.npy"))

    def turns(self, rows: Sequence[int]) -> list[Turns]:
        """The turns of some rows, read from the conversations' file."""
        column = column_at(self.texts, "messages").take(list(rows))
        return [
            [(m["role"], m["content"]) for m in messages if m["role"] != "system"]
            for messages in column.to_pylist()
        ]


def _mapped(path: Path) -> "NDArray[Any]":
    import numpy as np

    # A matrix without rows cannot be mapped.
    mode: Any = "r" if path.stat().st_size > SMALL else None
    found: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    return found
