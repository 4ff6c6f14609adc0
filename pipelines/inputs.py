"""What a stage reads from outside of its run folder, known by content, not only by name.

A recipe names files and checkpoints. Their names are in its fingerprint; an edited file under the
same name is noticed here. Files are read only when their size or time of change is not what it was,
so that looking again costs a few system calls.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.nested import flat, part_of, without
from pipelines.recipe import Recipe
from pipelines.stage_table import Stage
from usersim.errors import InputError
from usersim.files import fingerprint

WHOLE_BYTES = 16 << 20  # a larger file is known by its size and by samples of it
SAMPLES, SAMPLE_BYTES = 16, 1 << 20  # of a checkpoint of gigabytes: under a tenth of a second
AGAINST = "curate.dedup.against"
Contents = dict[str, dict[str, str]]
"""By the recipe's key: `stat` (names, sizes, times of change) and `content`, both hashes."""


def inputs_of(stage: Stage, recipe: Recipe, user_model: Path, likeness: Path) -> dict[str, Path]:
    """The local files and folders that a stage reads, by the key of the recipe that names them.

    `user_model` and `likeness` are where the run's own stand, which conversations are made with.
    """
    table = without(recipe.to_table(), stage.pace)
    named = {key: part_of(table, key) for key in stage.tables}
    named["models"] = {key: table["models"][key] for key in stage.models}
    values = [pair for key, value in flat(named) for pair in _each(key, value)]
    found = {key: _meant(key, Path(str(v)).expanduser()) for key, v in values if _is_path(v)}
    before = {needed.name for needed in recipe.after(stage)}
    if "train_user" in before:
        found["the run's UserGPT"] = user_model
    if "learn_likeness" in before:
        found["the run's likeness"] = likeness
    return {key: path for key, path in found.items() if path.exists()}


def _each(key: str, value: object) -> Iterator[tuple[str, object]]:
    """A value under its key; those of a list (benchmarks, say) one by one, numbered."""
    if isinstance(value, list | tuple):
        yield from ((f"{key}[{number}]", each) for number, each in enumerate(value))
    else:
        yield key, value


def _meant(key: str, path: Path) -> Path:
    """Where the content lies: a run or a corpus to deduplicate against is its conversations."""
    if not key.startswith(AGAINST):
        return path
    return next((f for f in (path / "curated", path / "data") if f.is_dir()), path)


def _is_path(value: object) -> bool:
    """Whether a value names something on this machine; a Hub's name that is no folder does not."""
    if not isinstance(value, str) or not 0 < len(value) < 1024 or "\n" in value:
        return False
    return "/" in value or Path(value).suffix != ""


def identified(paths: Mapping[str, Path], known: Contents | None = None) -> Contents:
    """What stands there now. What `known` has under the same sizes and times is not read again.

    Raises InputError for what cannot be read.
    """
    before, now = known or {}, {}
    for key, path in paths.items():
        try:
            stat = fingerprint(list(_stats(path)))
            same = before.get(key, {})
            content = same["content"] if same.get("stat") == stat else _content(path)
        except OSError as error:
            raise InputError(f"{key}: cannot read {path}: {error.strerror or error}") from error
        now[key] = {"stat": stat, "content": content}
    return now


def changed(then: Contents | None, paths: Mapping[str, Path]) -> list[str]:
    """A readable line for each input whose content is not what it was; one that is gone has none.

    An older run folder knows no contents: nothing can be said.
    """
    now = identified({key: path for key, path in paths.items() if key in (then or {})}, then)
    return [
        f"{key}: {paths[key]} has other content ({before['content']} -> {now[key]['content']})"
        for key, before in (then or {}).items()
        if key in now and before["content"] != now[key]["content"]
    ]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))


def _stats(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in _files(path):
        stat = file.stat()
        yield file.name, stat.st_size, stat.st_mtime_ns


def _content(path: Path) -> str:
    """16 hex digits of all files' names, sizes and bytes; of large files, of samples of them."""
    digest = hashlib.sha256()
    for file in _files(path):
        size = file.stat().st_size
        name = file.name if path.is_dir() else ""  # a renamed file is the same source
        digest.update(f"{name}\0{size}\0".encode())
        with file.open("rb") as handle:
            if size <= WHOLE_BYTES:
                digest.update(handle.read())
                continue
            for sample in range(SAMPLES):
                handle.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(handle.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
