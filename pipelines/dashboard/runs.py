"""The runs in a folder, and how each of them stands, from its figures alone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import findings
from pipelines.run_view import RunView
from pipelines.stage_table import STAGES
from usersim.errors import InputError
from usersim.files import read_json

LIVE_S = 90.0
"""A journal that was written within this time belongs to a run that is talking."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the list of runs says about one."""

    name: str
    root: Path
    state: str
    """`generating`, `done`, or what was done last."""
    done: tuple[str, ...]
    conversations: float | None
    kept: float | None
    rounds: float | None
    likeness: str
    gate: "findings.Gate | None"
    publish: str
    seconds: float
    changed: float
    """When something was last written (seconds since 1970)."""
    problem: str = ""

    @property
    def live(self) -> bool:
        """Whether it is generating now."""
        return self.state == "generating"


def run_folders(root: Path) -> dict[str, Path]:
    """Runs by name: those inside `root`, or `root` itself where it is one.

    Raises InputError when there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; `realchat run` makes runs/demo")
    if _is_run(root):
        return {root.resolve().name: root}
    return {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and _is_run(p)}


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("recipe.yaml", "metrics.json"))


def summary(name: str, root: Path) -> Summary:
    """How a run stands; what cannot be read is said, and never raised."""
    view = RunView.of_figures(root)
    done = tuple(_done(root))
    live = is_live(root)
    likeness, _ = findings.likeness(view.table("report", "surface"))
    publish, _ = findings.may_publish(view)
    gate = findings.gate(view)
    last = "generating" if live else "done" if _is_whole(done) else _last(done)
    return Summary(
        name=name,
        root=root,
        state=last,
        done=done,
        conversations=view.number("simulate", "conversations"),
        kept=view.number("curate", "kept"),
        rounds=view.number("simulate", "rounds_mean"),
        likeness=likeness.partition(":")[0],
        gate=gate,
        publish=findings.answer(publish, gate),
        seconds=sum(view.counts("timing").values()),
        changed=_changed(root),
        problem="; ".join(view.problems),
    )


def is_live(root: Path) -> bool:
    """Whether turns are being written: a simulation that has not ended, with a fresh journal."""
    if "simulate" in set(_done(root)):
        return False
    fresh = time.time() - LIVE_S
    return any(_mtime(path) > fresh for path in (root / "journal").glob("*.sqlite*"))


def _done(root: Path) -> Iterator[str]:
    for stage in STAGES:
        path = root / "stages" / f"{stage.name}.json"
        if not path.exists():
            continue
        try:
            mark: Any = read_json(path)
        except InputError:
            continue
        if isinstance(mark, dict) and mark.get("state") == "done":
            yield stage.name


def _is_whole(done: tuple[str, ...]) -> bool:
    return {"simulate", "curate", "corpus", "report"} <= set(done)


def _last(done: tuple[str, ...]) -> str:
    return f"{done[-1].replace('_', ' ')} done" if done else "begun"


def _changed(root: Path) -> float:
    names = ("metrics.json", "report.html", "recipe.yaml", "journal", "conversations")
    return max((_mtime(root / name) for name in names), default=0.0)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
