"""`realchat verify`: proof that a run is what it says, from the plan to the dataset card.

Everything is counted again: conversations against plan and journals, each funnel, curated and
rejected rows, the corpus, the figures on its card, and every file's hash. Nothing is written.
"""

import fcntl
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines.card import cell, size_category
from pipelines.corpus import corpus_statistics, curated_table
from pipelines.filters import FilterSettings
from pipelines.mending import mended
from pipelines.recipe import Recipe
from pipelines.run_folder import PUBLISHED, Mark, RunFolder
from pipelines.stage_table import STAGES, Stage, stage_named
from usersim.audit import Audit, Check
from usersim.conversation import Conversation
from usersim.engines import model_name
from usersim.errors import InputError, WorldError
from usersim.files import file_hash, read_json, read_rows
from usersim.outcome import Lineage
from usersim.plan import Agenda

SHOWN = 10  # problems of one check; the others are counted
Rows = dict[str, list[dict[str, Any]]]


def verify(root: Path) -> list[Check]:
    """What was looked at in a run folder, and what is wrong with it, by the stages begun.

    Raises InputError when the folder is no run, WorldError while another process works in it.
    """
    run = RunFolder(root)
    if not run.exists:
        raise InputError(f"{root} is no run folder: it has no {run.recipe_file.name}")
    with _undisturbed(root):
        return list(_Proof(run).checks())


def report(checks: Sequence[Check]) -> str:
    """The checks as plain text, a line each, and what is wrong below; the last line sums up."""
    lines = []
    for check in checks:
        lines.append(f"{'WRONG' if check.problems else 'ok':<6} {check.name}: {check.found}")
        lines += [f"         {problem}" for problem in check.problems[:SHOWN]]
        if (more := len(check.problems) - SHOWN) > 0:
            lines.append(f"         and {more} more like these")
    wrong = sum(len(check.problems) for check in checks)
    return "\n".join([*lines, f"{wrong} findings" if wrong else "clean"])


@contextmanager
def _undisturbed(root: Path) -> Iterator[None]:
    """Hold off those who would change the folder; on a read-only disk there is nobody to hold."""
    try:
        handle = os.open(root / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise WorldError(f"another realchat works in {root}: verify it when it is done") from error
    finally:
        os.close(handle)


class _Proof:
    """One pass over a run folder."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._recipe = Recipe.load(run.recipe_file)
        self._metrics = run.metrics()

    def checks(self) -> Iterator[Check]:
        """Every check of the stages that were begun, in order."""
        looks: dict[str, Callable[[dict[str, Any]], Iterable[Check]]] = {
            "ingest": self._ingest,
            "simulate": self._simulate,
            "curate": self._curate,
            "corpus": self._corpus,
        }
        yield self._stages()
        for name, look in looks.items():
            mark = self._run.mark(stage_named(name))
            if mark is not None:
                yield from look(mark.figures or {})
        yield self._manifest()

    def _stages(self) -> Check:
        check, done, missing = Check("stages"), [], []
        planned = self._recipe.planned
        for stage in STAGES:
            mark = self._run.mark(stage)
            if mark is None:
                missing += [stage.verb] if stage in planned else []
                continue
            self._look_at_mark(stage, mark, check)
            done.append(stage.verb)
        check.found = f"{', '.join(done) or 'none'} done"
        check.found += f"; not yet: {', '.join(missing)}" if missing else ""
        return check

    def _look_at_mark(self, stage: Stage, mark: Mark, check: Check) -> None:
        if mark.state != "done":
            check.problems.append(
                f"{stage.verb} was begun and is not finished: the same command goes on, and what is"
                " missing below comes with it"
            )
            return
        if not stage.shows_all:
            expected = self._recipe.stage_fingerprint(stage)
            check.same(f"{stage.verb}: fingerprint", mark.fingerprint, expected)
        told = self._metrics.get(stage.figures)
        if told != (mark.figures or {}):
            check.problems.append(f"metrics.json says other figures of {stage.verb} than its mark")

    def _ingest(self, figures: dict[str, Any]) -> Iterator[Check]:
        funnel, splits = figures.get("funnel", []), figures.get("splits", {})
        yield _funnel("ingest", funnel, None, sum(splits.values()))
        check = Check("people", f"{sum(splits.values())} conversations")
        for split, count in splits.items():
            rows = _rows([self._run.people / f"{split}.parquet"], check)
            check.same(f"{split}.parquet: rows", _count(rows), count)
        refused = _rows([self._run.people / "rejected.parquet"], check)
        _same_reasons(check, "rejected.parquet", funnel, refused)
        yield check

    def _simulate(self, figures: dict[str, Any]) -> Iterator[Check]:
        run, recipe = self._run, self._recipe
        identity = recipe.identity(stage_named("simulate"))
        user = recipe.user_engine(run.user_model, run.logs)
        assistant = recipe.assistant_engine(run.logs)
        lineage = Lineage(recipe.simulate, identity, model_name(user), model_name(assistant))
        audit = Audit(
            Agenda.of(recipe.simulate, identity, recipe.seed, run.root), lineage, run.root
        )
        yield from audit.checks()
        if figures:
            yield audit.figures(figures)

    def _curate(self, figures: dict[str, Any]) -> Iterator[Check]:
        funnel = figures.get("funnel", [])
        yield _funnel("curate", funnel, figures.get("in"), figures.get("kept"))
        check = Check("curated")
        made = _rows(sorted(self._run.conversations.glob("part-*.parquet")), check)
        kept = _rows(sorted(self._run.curated.glob("part-*.parquet")), check)
        refused = _rows([self._run.rejected / "curate.parquet"], check)
        check.found = f"{_count(made)} = {_count(kept)} kept + {_count(refused)} rejected"
        _conserved(check, made, kept, refused, self._recipe.curate.filters)
        for name, rows in (("in", made), ("kept", kept)):
            check.same(f"figures: {name}", figures.get(name), _count(rows))
        _same_reasons(check, "rejected/curate.parquet", funnel, refused)
        yield check

    def _corpus(self, figures: dict[str, Any]) -> Iterator[Check]:
        check, paths = Check("corpus"), sorted((self._run.corpus / "data").glob("*.parquet"))
        names = sorted({path.name.partition("-")[0] for path in paths}, reverse=True)
        parts = {n: _rows([p for p in paths if p.name.startswith(f"{n}-")], check) for n in names}
        splits = {name: _count(rows) for name, rows in parts.items()}
        check.found = " + ".join(f"{count} {name}" for name, count in splits.items())
        curated = _rows(sorted(self._run.curated.glob("part-*.parquet")), check)
        _same_rows(check, list(parts.values()), curated)
        if check.problems:  # whatever is counted of them would be wrong as well
            yield check
            return
        counted = corpus_statistics(curated_table(self._run.curated))
        counted |= {"conversations": _count(curated), "splits": splits, "shards": len(paths)}
        counted["bytes"] = sum(path.stat().st_size for path in paths)
        for key, value in counted.items():
            check.same(f"figures: {key}", figures.get(key), value)
        yield check
        funnel = (self._metrics.get("curate") or {}).get("funnel", [])
        yield _card(self._run.corpus / "README.md", counted, funnel)

    def _manifest(self) -> Check:
        check, path = Check("manifest"), self._run.manifest_file
        files = [p for f in PUBLISHED for p in (self._run.root / f).rglob("*") if p.is_file()]
        if not path.is_file():
            check.found = "none yet"
            if all(map(self._run.mark, self._recipe.planned)):
                check.problems.append(f"{path.name} is missing")
            return check
        table = read_json(path)
        there = {str(p.relative_to(self._run.root)): p for p in files}
        listed = {entry["path"]: entry for entry in table["files"]}
        check.found = f"{len(listed)} files"
        check.problems += [f"{name} is not listed" for name in sorted(there.keys() - listed.keys())]
        check.problems += [f"{name} is missing" for name in sorted(listed.keys() - there.keys())]
        for name in sorted(listed.keys() & there.keys()):
            check.same(f"{name}: bytes", there[name].stat().st_size, listed[name]["bytes"])
            check.same(f"{name}: SHA-256", file_hash(there[name]), listed[name]["sha256"])
        check.same("recipe", table.get("recipe"), self._recipe.fingerprint())
        marks = {s.name: m.fingerprint for s in STAGES if (m := self._run.mark(s))}
        check.same("stages", table.get("stages"), marks)
        return check


def _funnel(name: str, funnel: list[dict[str, Any]], num_in: Any, kept: Any) -> Check:
    """In = kept + rejected at each step, and each step takes in what the one before kept."""
    first, last = (funnel[0]["in"], funnel[-1]["kept"]) if funnel else (0, 0)
    check = Check(f"funnel of {name}", f"{first} in, {last} kept, {len(funnel)} steps")
    before: dict[str, Any] = {"kept": num_in, "unit": "conversations"}
    for step in funnel:
        place, rejected = step["stage"], sum(step["reasons"].values())
        check.same(f"{place}: rejected", step["rejected"], rejected)
        check.same(f"{place}: kept + rejected", step["kept"] + step["rejected"], step["in"])
        if before["kept"] is not None and before["unit"] == step["unit"]:
            check.same(f"{place}: in", step["in"], before["kept"])
        before = step
    check.same("kept by the last step", last, kept)
    return check


def _card(path: Path, counted: Mapping[str, Any], funnel: list[dict[str, Any]]) -> Check:
    """The counts that the dataset card tells, in its metadata, its first lines and its tables."""
    check = Check("card", path.name)
    try:
        text = path.read_text(encoding="utf-8")
        _, front, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
        metadata = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError) as error:
        check.problems.append(f"cannot be read: {error}")
        return check
    lines = set(body.splitlines())
    told = re.search(r"an assistant: (\d+) conversations,\n([\d.]+) rounds each", body)
    numbers = (int(told[1]), float(told[2])) if told else None
    check.same("first lines", numbers, (counted["conversations"], counted["rounds_mean"]))
    category = [size_category(counted["conversations"])]
    check.same("size_categories", metadata.get("size_categories"), category)
    configs = [c for c in metadata.get("configs", ()) if c.get("config_name") == "default"]
    data_files = [f["split"] for c in configs for f in c["data_files"]]
    check.same("splits", sorted(data_files), sorted(counted["splits"]))
    expected = [f"| {cell(s)} | {n} conversations |" for s, n in counted["splits"].items()]
    for row in counted["sources"]:
        license = cell(row["license"] or "not stated")
        expected.append(f"| {cell(row['source'])} | {license} | {row['conversations']} |")
    for step in funnel:
        reasons = ", ".join(f"{cell(reason)} {n}" for reason, n in step["reasons"].items())
        counts = f"{step['in']} | {step['kept']} | {step['rejected']}"
        expected.append(f"| {cell(step['stage'])} | {counts} | {reasons} |")
    check.problems += [f"does not say: {line}" for line in expected if line not in lines]
    check.found = f"{counted['conversations']} conversations, {len(expected)} rows of figures"
    return check


def _conserved(
    check: Check, made: Rows, kept: Rows, refused: Rows, filters: FilterSettings
) -> None:
    """Each conversation made is kept, as it was or mended by the recipe's policies, or rejected."""
    for key in sorted(made.keys() | kept.keys() | refused.keys()):
        num_in, num_kept, num_refused = (len(rows.get(key, ())) for rows in (made, kept, refused))
        if num_in != num_kept + num_refused:
            counts = f"{num_in} simulated, {num_kept} kept, {num_refused} rejected"
            check.problems.append(f"{key}: {counts}")
        elif any(not _comes_of(row, made[key], filters) for row in kept.get(key, ())):
            check.problems.append(f"{key}: the kept row is not the simulated one")


def _same_rows(check: Check, parts: Sequence[Rows], curated: Rows) -> None:
    """The splits hold what was curated, each row once."""
    for key in sorted(curated.keys() | {key for rows in parts for key in rows}):
        there, wanted = [row for rows in parts for row in rows.get(key, ())], curated.get(key, [])
        if len(there) != len(wanted):
            check.problems.append(f"{key}: stands there {len(there)} times, curated {len(wanted)}")
        elif any(row not in wanted for row in there):
            check.problems.append(f"{key}: the row is not the curated one")


def _same_reasons(check: Check, name: str, funnel: list[dict[str, Any]], rows: Rows) -> None:
    """The rejected rows are those that the funnel counts, by step and reason."""
    found = Counter((row["stage"], row["reason"]) for same in rows.values() for row in same)
    told = Counter({(s["stage"], reason): n for s in funnel for reason, n in s["reasons"].items()})
    for key in sorted(found.keys() | told.keys()):
        if found[key] != told[key]:
            place = ", ".join(key)
            check.problems.append(f"{name}: {found[key]} rows ({place}), the funnel: {told[key]}")


def _comes_of(row: dict[str, Any], made: Sequence[dict[str, Any]], filters: FilterSettings) -> bool:
    if row in made:
        return True
    try:
        return any(mended(Conversation.from_row(m), filters)[0].to_row() == row for m in made)
    except InputError:  # what was made is damaged, which its own check tells
        return False


def _rows(paths: Iterable[Path], check: Check) -> Rows:
    """The rows of some files by their id, a list each: an id may stand there twice."""
    rows: Rows = {}
    for path in paths:
        try:
            for row in read_rows(path):
                rows.setdefault(str(row.get("id")), []).append(row)
        except InputError as error:
            check.problems.append(str(error.args[0]))
    return rows


def _count(rows: Rows) -> int:
    return sum(map(len, rows.values()))
