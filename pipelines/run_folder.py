"""The run folder: where everything a run makes stands, and what of it is done.

Each stage leaves a mark, written last and whole: its fingerprint, its seconds and its figures.
A stage with a matching mark is not done again; outputs of two recipes are never mixed.
metrics.json is made of the marks, so it can be made again at any time.
"""

import fcntl
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.inputs import Contents, changed, identified, inputs_of
from pipelines.machine import machine, versions
from pipelines.nested import differences, part_of
from pipelines.recipe import MOVES, UNPRINTED, Recipe, read_yaml
from pipelines.stage_table import STAGES, Stage, downstream, stage_named
from usersim.errors import InputError, WorldError
from usersim.files import file_hash, fingerprint, read_json, write_json, write_text

HEADER = "# The effective recipe of this run, defaults included. Written by realchat.\n"
MANY = "simulate.conversations"
PUBLISHED = ("conversations", "corpus")  # whose files the manifest lists with their hashes


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of a stage in this folder: begun, or done with its seconds and figures."""

    stage: str
    state: Literal["begun", "done"]
    fingerprint: str
    seconds: float = 0.0
    figures: dict[str, Any] | None = None
    inputs: Contents | None = None
    """What the files and checkpoints that it reads held; older folders do not know."""
    grown: str = ""
    """The fingerprint it is about to have: a run that grows is either size's until it goes on."""


class RunFolder:
    """Paths, marks and the lock of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.people = root / "people"
        self.user_model = root / "models" / "user"
        self.likeness = root / "models" / "likeness.npz"
        self.rehearsal = root / "models" / "rehearsal"
        self.assistant_model = root / "models" / "assistant"
        self.journal = root / "journal"
        self.conversations = root / "conversations"
        self.curated = root / "curated"
        self.rejected = root / "rejected"
        self.corpus = root / "corpus"
        self.logs = root / "logs"
        self.report = root / "report.html"
        self.recipe_file = root / "recipe.yaml"
        self.metrics_file = root / "metrics.json"
        self.manifest_file = root / "manifest.json"
        self._marks = root / "stages"

    def model_named(self, name: str) -> str:
        """The run's own `user` or `assistant` model, or the name as it is."""
        own = {"user": self.user_model, "assistant": self.assistant_model}.get(name)
        if own is None:
            return name
        if not own.is_dir():
            raise InputError(f"{self.root} has no model {name!r} yet; `realchat run` makes it")
        return str(own)

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.recipe_file.is_file()

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder for this process; yields the lock's file descriptor.

        A child that inherits the descriptor keeps the lock for as long as it lives.
        Raises InputError for what cannot be a run folder, WorldError when another process holds it.
        """
        self._make()
        handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(handle, self.root)
            yield handle
        finally:
            os.close(handle)

    def adopt(self, recipe: Recipe, redo: Stage | None = None) -> None:
        """Make the folder this recipe's; clear the stage to redo and those that use it.

        Raises InputError with the difference when a stage was begun with another recipe.
        """
        cleared = {redo.name, *(s.name for s in downstream(redo))} if redo else set()
        others = [
            stage.name
            for stage in STAGES
            if stage.name not in cleared and self._is_others(stage, recipe)
        ]
        if others:
            raise InputError(self._refusal(recipe, others))
        for name in cleared:
            self.clear(name)
        if not self.exists or self.recipe() != recipe.to_table():
            write_text(self.recipe_file, HEADER + recipe.to_yaml())

    def recipe(self) -> dict[str, Any]:
        """The table in recipe.yaml, as it was written."""
        return read_yaml(self.recipe_file)

    def mark(self, stage: Stage) -> Mark | None:
        """What is known of a stage here."""
        path = self._marks / f"{stage.name}.json"
        return Mark(**read_json(path)) if path.exists() else None

    def is_done(self, stage: Stage, recipe: Recipe) -> bool:
        """Whether the stage is done, with this recipe, and its outputs still stand."""
        mark = self.mark(stage)
        return (
            mark is not None
            and mark.state == "done"
            and mark.fingerprint == self._expected(stage, recipe)
            and self._has_outputs(stage)
            and not self.changed_inputs(stage, recipe)
        )

    def changed_inputs(self, stage: Stage, recipe: Recipe) -> list[str]:
        """Files and checkpoints that hold something else than when the stage was begun."""
        mark = self.mark(stage)
        return changed(mark.inputs if mark else None, self._inputs(stage, recipe))

    def _inputs(self, stage: Stage, recipe: Recipe) -> dict[str, Path]:
        return inputs_of(stage, recipe, self.user_model, self.likeness)

    def begin(self, stage: Stage, recipe: Recipe) -> None:
        """Note that a stage begins; what an interrupted attempt left goes, unless it resumes.

        Raises InputError where that was made of something else: of a UserGPT, for instance, that
        was gone since and is another one now.
        """
        if stage.resumes and self._is_others(stage, recipe):
            raise InputError(self._refusal(recipe, [stage.name]))
        if not stage.resumes:
            self.clear(stage.name)
        inputs = identified(self._inputs(stage, recipe))
        self._write(Mark(stage.name, "begun", self._expected(stage, recipe), inputs=inputs))

    def finish(self, stage: Stage, recipe: Recipe, seconds: float, figures: dict[str, Any]) -> None:
        """Note that a stage is done, and put its figures into metrics.json."""
        begun, expected = self.mark(stage), self._expected(stage, recipe)
        inputs = begun.inputs if begun else identified(self._inputs(stage, recipe))
        self._write(Mark(stage.name, "done", expected, round(seconds, 2), _finite(figures), inputs))
        self.write_metrics()

    def clear(self, name: str) -> None:
        """Remove a stage's outputs, what was measured of them, its drafts and its mark."""
        stage = next(s for s in STAGES if s.name == name)
        (self._marks / f"{name}.json").unlink(missing_ok=True)
        self._remove((*stage.outputs, *stage.measured, *stage.drafts))

    def reopen(self, stage: Stage, recipe: Recipe, grown: Recipe | None = None) -> None:
        """Let a stage go on from its own outputs; what was made or measured of them goes.

        The outputs stay `recipe`'s; `grown` may be adopted as well.
        """
        for later in downstream(stage):
            self.clear(later.name)
        self._remove(stage.measured)
        mark, own = self.mark(stage), self._expected(stage, recipe)
        inputs, larger = mark.inputs if mark else None, self._expected(stage, grown or recipe)
        self._write(Mark(stage.name, "begun", own, inputs=inputs, grown=larger))

    def write_metrics(self) -> None:
        """Write metrics.json from the marks of the stages that are done."""
        done = [(s, m) for s in STAGES if (m := self.mark(s)) and m.state == "done"]
        metrics: dict[str, Any] = {s.figures: m.figures or {} for s, m in done}
        metrics["timing"] = {f"{s.name}_s": m.seconds for s, m in done}
        write_json(self.metrics_file, metrics | {"versions": versions(), "machine": machine()})

    def metrics(self) -> dict[str, Any]:
        """metrics.json, or an empty table before any stage is done."""
        return dict(read_json(self.metrics_file)) if self.metrics_file.exists() else {}

    def write_manifest(self, recipe: Recipe) -> None:
        """Write manifest.json: the fingerprints, and every published file's size and SHA-256."""
        paths = [p for folder in PUBLISHED for p in sorted((self.root / folder).rglob("*"))]
        files = [
            {
                "path": str(path.relative_to(self.root)),
                "bytes": path.stat().st_size,
                "sha256": file_hash(path),
            }
            for path in paths
            if path.is_file()
        ]
        marks = {s.name: m.fingerprint for s in STAGES if (m := self.mark(s))}
        table = {"name": recipe.name, "recipe": recipe.fingerprint(), "stages": marks}
        write_json(self.manifest_file, table | {"files": files})

    def _make(self) -> None:
        if self.root.is_file():
            raise InputError(f"{self.root} is a file; a run needs a folder: --run runs/NAME")
        if self.root.is_dir() and not self.exists and _strangers(self.root):
            raise InputError(
                f"{self.root} holds other files and is no run folder; "
                "name a new or a run's own folder: --run runs/NAME"
            )
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorldError(
                f"cannot write in run folder {self.root}: {error.strerror}; name another: --run"
            ) from error

    def _expected(self, stage: Stage, recipe: Recipe) -> str:
        if not stage.shows_all:
            return recipe.stage_fingerprint(stage)
        # It is done once for each state of the folder, and for what verbs measured of that.
        marks = [asdict(m) for s in STAGES if s is not stage and (m := self.mark(s))]
        tables = [p for s in STAGES for name in s.measured if (p := self.root / name).is_file()]
        return fingerprint([*marks, *(file_hash(p) for p in tables if p.suffix == ".json")])

    def _remove(self, made: Iterable[str]) -> None:
        for path in (self.root / name for name in made):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _has_outputs(self, stage: Stage) -> bool:
        return all((self.root / output).exists() for output in stage.outputs)

    def _has_anything(self, stage: Stage) -> bool:
        return any((self.root / made).exists() for made in (*stage.outputs, *stage.drafts))

    def _is_others(self, stage: Stage, recipe: Recipe) -> bool:
        mark = self.mark(stage)
        if mark is None or stage.shows_all:
            return False
        if mark.state == "begun" and not (stage.resumes and self._has_anything(stage)):
            return False  # nothing of it will be used: it begins anew
        if self._expected(stage, recipe) not in (mark.fingerprint, mark.grown):
            return True
        return bool(self.changed_inputs(stage, recipe))

    def _refusal(self, recipe: Recipe, others: list[str]) -> str:
        own, asked = self.recipe(), recipe.to_table()
        lines = [line for line in differences(own, asked) if not _is_free(line)]
        for name in others:
            lines += self.changed_inputs(stage_named(name), recipe)
        first, more = stage_named(others[0]), part_of(asked, MANY)
        differ = {line.partition(":")[0] for line in lines} - {"simulate.extended_at"}
        grown = differ == {MANY} and more > part_of(own, MANY)
        grow = f"add to it with `realchat simulate --run {self.root} --extend {more}`, "
        go_on = f" go on with the folder's own recipe by giving only --run {self.root},"
        if not lines:  # its own recipe would be refused as well
            lines, go_on = ["(the same settings, which another version of realchat followed)"], ""
        return "\n".join(
            [
                f"{self.root} was made with another recipe ({', '.join(others)} would differ):",
                *(f"  {line}" for line in lines),
                f"{grow if grown else ''}keep both with --run {self.root}-2,{go_on} or make it anew"
                f" with --redo {first.verb}",
            ]
        )

    def _write(self, mark: Mark) -> None:
        write_json(self._marks / f"{mark.stage}.json", asdict(mark))


def _is_free(difference: str) -> bool:
    """Whether a line of `differences` tells of a key that may change at any time."""
    key = difference.partition(":")[0]
    free = {*UNPRINTED, *MOVES, *(key for stage in STAGES for key in stage.pace)}
    return any(key == name or key.startswith(f"{name}.") for name in free)


def _strangers(root: Path) -> bool:
    return any(p.name not in {".lock", "logs"} for p in root.iterdir())


def _lock(handle: int, root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode().strip() or "unknown"
        raise WorldError(
            f"another realchat (process {holder}) works in {root}: wait, or take another --run"
        ) from error
    except OSError as error:  # of some file systems of networks
        raise WorldError(
            f"{root} cannot be locked ({error.strerror}): name a folder of another disk, --run"
        ) from error
    with suppress(OSError):  # a full disk: the lock holds all the same, only our number is missing
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: a figure that is not a finite number becomes null."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
