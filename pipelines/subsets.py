"""The corpus' other subsets: what was thrown away, and where each row comes from.

    rejected   one row a rejected conversation: stage, reason, detail, and its messages
    lineage    one row a published conversation: split, models, seed, and every verdict about it

Not every rejected text may go into the world. Its messages and the detail (which quotes them) are
left out unless every finding about it is one of PUBLIC: who was dropped for personal data, a slur
or a benchmark's question must not be published by being dropped. A reason that is not known here
counts as not public.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from usersim.conversation import conversation_schema
from usersim.errors import InputError
from usersim.files import read_rows

if TYPE_CHECKING:
    import pyarrow as pa

Subset = Literal["rejected", "lineage"]
ORIGIN = ("source", "license", "stop_reason", "user_model", "assistant_model", "recipe")
PUBLIC = frozenset({
    "no_answer", "blank_turn", "template_leak", "reasoning_leak", "transcript", "user_answers",
    "assistant_asks", "echo", "self_naming", "refusal", "repetitive_turn", "repeated_turn",
    "goodbye_loop", "length", "truncated", "encoding_damage", "foreign_language", "low_quality",
    "low_judge_score", "unscored", "duplicate_id", "exact_duplicate", "same_opener",
    "near_duplicate_opener", "near_duplicate_first_round", "near_duplicate_conversation",
    "near_duplicate_dialogue", "opener_cluster", "intent_cap", "persona_cap",
    "round_balance", "semantic_duplicate", "tellable",
})  # fmt: skip
"""Reasons and findings that are about form alone. Not `marked_bad`: a person may have marked what
no rule finds (a name, a secret), and said so in words of their own, which are the detail."""


def rejected_table(rejected: Path, curated: Path) -> "pa.Table":
    """Rejected rows as they may be published, in the order of their ids; maybe none.

    `rejected` is a file or a folder of them. Raises InputError when one cannot be read.
    """
    import pyarrow as pa

    found = findings_of(curated)
    rows = [_public(row, found.get(str(row["id"]), ())) for row in rejected_rows(rejected)]
    rows.sort(key=lambda row: (row["id"], row["stage"]))
    text = pa.string()
    columns = [("messages", conversation_schema().field("messages").type), ("id", text)]
    columns += [(name, text) for name in ("stage", "reason", "detail")]
    columns += [("withheld", pa.bool_()), *((name, text) for name in ORIGIN)]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def rejected_rows(rejected: Path) -> list[dict[str, Any]]:
    """Rows of a file of rejections, or of a folder of them; none where there is no such file."""
    files = sorted(rejected.glob("*.parquet")) if rejected.is_dir() else [rejected]
    return [row for path in files if path.exists() for row in read_rows(path)]


def is_public(row: Mapping[str, Any], findings: Iterable[str]) -> bool:
    """Whether the text of a rejected row may go into the world; `findings` are all about it."""
    messages = _record(str(row.get("record") or "")).get("messages")
    return {str(row.get("reason")), *findings} <= PUBLIC and isinstance(messages, list)


def _public(row: Mapping[str, Any], findings: Iterable[str]) -> dict[str, Any]:
    record, clean = _record(str(row.get("record") or "")), is_public(row, findings)
    shown = {"messages": record["messages"], "detail": row["detail"]} if clean else {}
    same = {name: row[name] for name in ("id", "stage", "reason")}
    return same | shown | {"withheld": not clean} | {n: _text(record.get(n)) for n in ORIGIN}


def _record(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def lineage_table(table: "pa.Table", held_out: set[str], curated: Path) -> "pa.Table":
    """Rows of published conversations without their text, with the verdicts about each."""
    import pyarrow as pa

    ids = table.column("id").to_pylist()
    splits = ["test" if row_id in held_out else "train" for row_id in ids]
    found = table.drop_columns(["messages"]).append_column("split", pa.array(splits))
    verdicts = _verdicts(curated)
    if verdicts is None:
        return found
    # Of two rows of one id the published one is meant.
    columns = (verdicts.column(name).to_pylist() for name in ("id", "dropped_for"))
    told = enumerate(zip(*columns, strict=True))
    place = {row_id: i for i, (row_id, dropped) in told if dropped is None}
    rows = pa.array([place.get(row_id) for row_id in ids], pa.int64())
    for name in verdicts.column_names:
        if name not in (*found.column_names, "dropped_for"):
            found = found.append_column(name, verdicts.column(name).take(rows))
    return found


def _verdicts(curated: Path) -> "pa.Table | None":
    """The table of verdicts, or None where curation left none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted((curated / "verdicts").glob("*.parquet"))
    try:
        tables = [pq.read_table(path) for path in paths]
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read the verdicts in {curated}: {error}") from error
    return pa.concat_tables(tables, promote_options="default") if tables else None


def findings_of(curated: Path) -> dict[str, set[str]]:
    """Every finding about what curation dropped, deciding or not, by the id; two may have one.

    Raises InputError when the verdicts cannot be read.
    """
    verdicts = _verdicts(curated)
    if verdicts is None or "failed" not in verdicts.column_names:
        return {}
    dropped = verdicts.filter(verdicts.column("dropped_for").is_valid())
    columns = (dropped.column(name).to_pylist() for name in ("id", "failed"))
    found: dict[str, set[str]] = {}
    for row_id, failed in zip(*columns, strict=True):
        found.setdefault(row_id, set()).update(failed or ())
    return found
