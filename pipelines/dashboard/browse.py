"""Looking through one run's conversations: search, filters, counts, one conversation with its fate.

Filters and counts are DuckDB over the catalogue's narrow files; words are SQLite's FTS5; the text
of a conversation is read from its own shard only when it is opened.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pipelines.dashboard.catalogue import ROWS_PER_SHARD, UNFINISHED, Catalogue, attempts
from pipelines.dashboard.fates import NUMBERS
from pipelines.dashboard.hits import hits_of, rows_of
from pipelines.marks import Mark, read_marks
from usersim.files import write_json

if TYPE_CHECKING:
    import duckdb

PAGE_SIZE = 25
FACETS = ("outcome", "reason", "stop_reason", "language", "persona", "assistant_model")
FACET_VALUES = 40
COUNTS = "counts.json"
SORTS = {
    "": "n",
    "-": "n DESC",
    "longest": "rounds DESC, n",
    "shortest": "rounds, n",
    "score": "score DESC NULLS LAST, n",
    "-score": "score NULLS LAST, n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to show, as it stands in the address."""

    q: str = ""
    side: str = ""
    outcome: str = ""
    reason: str = ""
    stop_reason: str = ""
    language: str = ""
    persona: str = ""
    assistant_model: str = ""
    mark: str = ""
    score: str = ""
    low: float | None = None
    high: float | None = None
    min_rounds: int | None = None
    max_rounds: int | None = None
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Wish":
        """What an address asks for; what cannot be understood counts as not asked."""
        numbers = {"low": float, "high": float, "min_rounds": int, "max_rounds": int, "page": int}
        asked: dict[str, Any] = {}
        for key in cls.__dataclass_fields__:
            text = query.get(key, "").strip()
            if key in numbers and text:
                try:
                    asked[key] = numbers[key](text)
                except ValueError:
                    continue
            elif text and key not in numbers:
                asked[key] = text[:300]
        wish = cls(**asked)
        return replace(wish, page=min(max(1, wish.page), 10**6))

    def to_query(self, **other: Any) -> str:
        """The address's query, with some values changed; only what is not the default."""
        table = asdict(replace(self, **other))
        usual = asdict(Wish())
        return urlencode({k: v for k, v in table.items() if v != usual[k]})

    @property
    def filters(self) -> bool:
        """Whether anything is asked but a page and an order."""
        return bool(replace(self, page=1, sort="").to_query())


@dataclass(frozen=True, slots=True)
class Found:
    """One page of conversations."""

    rows: list[dict[str, Any]]
    total: int
    capped: bool = False
    """Whether there are more than `total`."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """One conversation as it is shown."""

    row: dict[str, Any]
    messages: list[dict[str, Any]]
    lineage: dict[str, Any]
    mark: Mark | None = None


@dataclass(slots=True)
class Browser:
    """Answers about one run; its counts are kept until the index or the marks change."""

    catalogue: Catalogue
    _counted: dict[str, Any] = field(default_factory=dict)

    def refresh(self) -> None:
        """Take up what is new in the run, and count it while nobody waits."""
        if self.catalogue.refresh():
            self.facets()

    def find(self, wish: Wish, page_size: int = PAGE_SIZE) -> Found:
        """The page that a wish asks for: first its numbers, then those few rows."""
        start = (wish.page - 1) * page_size
        with self._view() as duck:
            if duck is None:
                return Found([], 0)
            hits, note, capped = hits_of(self.catalogue, duck, wish.q, wish.side)
            if replace(wish, q="", side="", page=1).to_query():
                total, page = self._numbers(duck, wish, hits, (start, page_size))
            elif hits is not None:
                total, page = len(hits), hits[start : start + page_size]
            else:
                total, page = self._page(start, page_size)
            rows = self._rows_at(duck, page, wish.score)
        marks = self.marks()
        return Found([r | {"mark": marks.get(r["id"])} for r in rows], total, capped, note)

    def _page(self, start: int, size: int) -> tuple[int, list[int]]:
        """Numbers of a page of everything: known without asking, as shards are numbered."""
        page: list[int] = []
        before = 0
        for shard in self.catalogue.shards():
            first = max(0, start - before)
            last = min(shard.rows, start + size - before)
            page += [shard.ordinal * ROWS_PER_SHARD + i for i in range(first, max(first, last))]
            before += shard.rows
        return before, page

    def _numbers(
        self,
        duck: "duckdb.DuckDBPyConnection",
        wish: Wish,
        hits: list[int] | None,
        span: tuple[int, int],
    ) -> tuple[int, list[int]]:
        """How many a wish with filters means, and the numbers of a page (start, size) of them.

        Counted and cut by DuckDB: nine in ten of a million are no list to carry about.
        """
        import pyarrow as pa

        if hits is not None:
            duck.register("hit", pa.table({"n": pa.array(hits, pa.int64())}))
        where, values = self._where(duck, wish)
        score = f'"{wish.score}"' if wish.score in self.scores(duck) else "NULL"
        order = SORTS.get(wish.sort, SORTS[""]).replace("score", score)
        total = _number(duck, f"SELECT count(*) FROM talk {where}", values)  # noqa: S608
        query = f"SELECT n FROM talk {where} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - columns are known ones
        rows = rows_of(duck, query, [*values, span[1], span[0]])
        return total, [row["n"] for row in rows]

    def _rows_at(
        self, duck: "duckdb.DuckDBPyConnection", numbers: Sequence[int], score: str
    ) -> list[dict[str, Any]]:
        """Rows by their numbers, in that order."""
        if not numbers:
            return []
        listed = ", ".join(map(str, map(int, numbers)))  # literals: groups of rows are passed over
        found = rows_of(duck, f"SELECT * FROM talk WHERE n IN ({listed})")  # noqa: S608
        by_number = {row["n"]: row | {"score": row.get(score)} for row in found}
        return [by_number[n] for n in numbers if n in by_number]

    def facets(self) -> dict[str, list[tuple[str, int]]]:
        """How many conversations there are of each kind, the most frequent first."""
        state = [list(signature) for signature in self.catalogue.state()]
        if self._counted.get("state") != state:
            self._counted = self._stored(state) or self._count(state)
        facets: dict[str, list[tuple[str, int]]] = self._counted["facets"]
        return facets

    def _stored(self, state: list[Any]) -> dict[str, Any] | None:
        """The counts of this state, where an earlier session left them."""
        with suppress(OSError, ValueError, LookupError):
            found = json.loads((self.catalogue.folder / COUNTS).read_text(encoding="utf-8"))
            return dict(found) if found["state"] == state else None
        return None

    def _count(self, state: list[Any]) -> dict[str, Any]:
        with self._view() as duck:
            found = {name: _facet(duck, name) if duck else [] for name in FACETS}
            scores = self.scores(duck) if duck else []
        total = sum(shard.rows for shard in self.catalogue.shards())
        counted = {"state": state, "facets": found, "scores": scores, "total": total}
        if not self.catalogue.busy:
            write_json(self.catalogue.folder / COUNTS, counted)
        return counted

    @property
    def score_names(self) -> list[str]:
        """Numbers that curation left for each conversation."""
        self.facets()
        return list(self._counted["scores"])

    @property
    def total(self) -> int:
        """Conversations in the index."""
        self.facets()
        return int(self._counted["total"])

    def marks(self) -> dict[str, Mark]:
        """What people said about single conversations."""
        return read_marks(self.catalogue.run)

    def open(self, identity: str) -> Opened | None:
        """The conversation with this id, whole; None where there is none."""
        row = self.openers_of([identity]).get(identity)
        return self.open_rows([row])[0] if row else None

    def open_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Opened]:
        """The conversations of these narrow rows, whole, in their order."""
        marks = self.marks()
        opened = []
        with self._view() as duck:
            for row in rows if duck is not None else ():
                record = self._record(duck, row)
                messages = record.pop("messages")
                lineage = {k: v for k, v in record.items() if v not in (None, "", [])}
                opened.append(Opened(dict(row), messages, lineage, marks.get(row["id"])))
        return opened

    def openers_of(self, identities: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Narrow rows by id: first their numbers, from two columns, then those rows."""
        with self._view() as duck:
            if duck is None or not identities:
                return {}
            asked = ", ".join("?" * len(identities))
            query = f"SELECT n FROM talk WHERE id IN ({asked})"  # noqa: S608 - only question marks
            numbers = [row["n"] for row in rows_of(duck, query, list(identities))]
            rows = self._rows_at(duck, numbers, "")
        return {row["id"]: row for row in rows}

    def clusters(self, page: int, page_size: int = 10) -> tuple[list[dict[str, Any]], int]:
        """Kept conversations with what was dropped for being like them, the largest first."""
        with self._view() as duck:
            if duck is None or "twin" not in _columns(duck):
                return [], 0
            grouped = (
                "SELECT twin, count(*) AS size, list(id ORDER BY n)[:12] AS members FROM talk"
                " WHERE twin <> '' GROUP BY twin"
            )
            total = _number(duck, f"SELECT count(*) FROM ({grouped})")  # noqa: S608
            start = (page - 1) * page_size
            rows = rows_of(
                duck, f"{grouped} ORDER BY size DESC, twin LIMIT {page_size} OFFSET {start}"
            )
        return rows, total

    def _record(self, duck: "duckdb.DuckDBPyConnection", row: Mapping[str, Any]) -> dict[str, Any]:
        path = self.catalogue.run / row["shard"]
        found = rows_of(duck, "SELECT * FROM read_parquet(?) WHERE id = ? LIMIT 1",
                      [str(path), row["id"]])  # fmt: skip
        if not found:
            return {"messages": []}
        if row["shard"] == UNFINISHED.as_posix():
            record = found[0]
            return {"messages": attempts(record["record"]), "detail": record["detail"]}
        return found[0]

    @contextmanager
    def _view(self) -> "Iterator[duckdb.DuckDBPyConnection | None]":
        """A DuckDB with the view `talk`; None while nothing is indexed."""
        rows = self.catalogue.rows()
        if not rows:
            yield None
            return
        with closing(self.catalogue.connect()) as duck:
            files = ", ".join("'" + path.replace("'", "''") + "'" for path in rows)
            duck.execute(
                f"CREATE VIEW talk AS SELECT * FROM read_parquet([{files}], union_by_name = true)"  # noqa: S608
            )
            yield duck

    @staticmethod
    def scores(duck: "duckdb.DuckDBPyConnection") -> list[str]:
        """Columns with numbers that came with the verdicts."""
        own = {"n", "row", "rounds"}
        described = duck.execute("DESCRIBE talk").fetchall()
        return [name for name, kind, *_ in described if kind in NUMBERS and name not in own]

    def _where(self, duck: "duckdb.DuckDBPyConnection", wish: Wish) -> tuple[str, list[Any]]:
        conditions, values = (["n IN (SELECT n FROM hit)"], []) if wish.q else ([], [])
        for name in FACETS:
            if asked := getattr(wish, name):
                conditions.append(f"{name} IS NOT DISTINCT FROM ?")
                values.append(None if asked == "none" else asked)
        bounds: list[tuple[str, str, float | None]] = [
            ("rounds", ">=", wish.min_rounds),
            ("rounds", "<=", wish.max_rounds),
        ]
        if wish.score in self.scores(duck):
            bounds += [(f'"{wish.score}"', ">=", wish.low), (f'"{wish.score}"', "<=", wish.high)]
        for name, sign, bound in bounds:
            if bound is not None:
                conditions.append(f"{name} {sign} ?")
                values.append(bound)
        if wish.mark:
            any_mark = wish.mark == "any"
            chosen = [i for i, m in self.marks().items() if any_mark or m.mark == wish.mark]
            conditions.append("list_contains(?, id)")
            values.append(chosen)
        return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


def _columns(duck: "duckdb.DuckDBPyConnection") -> set[str]:
    return {row[0] for row in duck.execute("DESCRIBE talk").fetchall()}


def _facet(duck: "duckdb.DuckDBPyConnection", name: str) -> list[tuple[str, int]]:
    if name not in _columns(duck):
        return []
    query = (
        f"SELECT {name}, count(*) FROM talk WHERE {name} IS NOT NULL AND {name} <> ''"  # noqa: S608
        f" GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT {FACET_VALUES}"
    )
    return [(str(value), int(count)) for value, count in duck.execute(query).fetchall()]


def _number(duck: "duckdb.DuckDBPyConnection", query: str, values: Sequence[Any] = ()) -> int:
    found = duck.execute(query, list(values)).fetchone()
    return int(found[0]) if found else 0
