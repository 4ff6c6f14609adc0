"""A release: the files of a run that go to a hub, as they will stand there, with their hashes.

    corpus           corpus/**, report.html                       a dataset repository
    user-model       models/user/**                               a model repository
    assistant-model  models/assistant/**                          a model repository

Nothing is written into the run. `manifest.json` of a release names every other file of it with
size and SHA-256, so that whoever gets it can check it, and so that a release is known by it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml

from pipelines.card import cell
from pipelines.licensing import Entry, Permission, permission
from pipelines.model_card import public_name, render_model_card
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from usersim.checkpoints import EMBEDDED
from usersim.errors import InputError
from usersim.files import file_hash, read_json

What = Literal["corpus", "user-model", "assistant-model"]
STAGE_OF: dict[What, str] = {
    "corpus": "corpus",
    "user-model": "train_user",
    "assistant-model": "train_assistant",
}
CARD, MANIFEST, REPORT = "README.md", "manifest.json", "report.html"
PLACEHOLDER = "path/to/this/dataset"  # where the corpus' card names itself
# What a checkpoint consists of. No pickles: who loads one runs its code.
CHECKPOINT_SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".md"})

NAME_BASES = {
    "realchat.json": "base",
    "config.json": "_name_or_path",
    "adapter_config.json": "base_model_name_or_path",
}
"""Files of a checkpoint, or of the adapter beside it, that name what it was trained from, and the
key; they name the folder of this machine that that lay in."""


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file as it will stand in the repository; `content` is a path, or the bytes themselves."""

    path: str
    content: Path | bytes
    size: int
    sha256: str

    def git_sha1(self) -> str:
        """The id that git gives these bytes."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for block in _blocks(self.content):
            digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Release:
    """What goes to one repository."""

    what: What
    name: str
    files: tuple[ReleaseFile, ...]
    permission: Permission
    left_out: tuple[str, ...] = ()
    """Files beside them that do not go along, and why."""
    gate: str = ""
    """What became of the gate, in words; empty for models."""

    @property
    def repo_type(self) -> Literal["dataset", "model"]:
        """What kind of repository holds it."""
        return "dataset" if self.what == "corpus" else "model"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def make_release(
    run: RunFolder,
    what: What,
    repo: str,
    confirmed: str | None = None,
    gate: Mapping[str, Any] | None = None,
) -> Release:
    """The release of a run's corpus or model, checked.

    Args:
        run: The run; its stage has to be done.
        what: What of it.
        repo: `owner/name` that the card names.
        confirmed: What the publisher states about licenses that are not known.
        gate: What the manifest records of the gate (see `pipelines.gate.passage`).

    Raises:
        InputError: the run has no such thing yet, its files are not those of the manifest, or no
            license allows to publish them.
    """
    if not run.exists:
        raise InputError(f"{run.root} is no run folder; publish one that `realchat run` made")
    stage = stage_named(STAGE_OF[what])
    mark = run.mark(stage)
    if mark is None or mark.state != "done":
        raise InputError(f"{run.root} has no {what} yet: `realchat {stage.verb} --run {run.root}`")
    recipe = Recipe.checked(run.recipe(), str(run.recipe_file))
    if what == "corpus":
        release = _corpus(run, recipe, repo, confirmed)
    else:
        release = _model(run, recipe, what, repo, confirmed)
    facts: dict[str, Any] = {
        "recipe": recipe.fingerprint(),
        "stages": {name: m.fingerprint for name in _stages(what) if (m := _mark(run, name))},
    }
    facts |= {"gate": dict(gate)} if gate else {}
    files = (*release.files, _manifest(release, facts))
    said = "" if gate is None else gate.get("overridden") or "every bound is kept"
    return replace(release, files=files, gate=said)


def _stages(what: What) -> Sequence[str]:
    before = ("ingest", "train_user", "simulate", "curate", "corpus")
    return {"corpus": before, "user-model": before[:2]}.get(what, (*before, "train_assistant"))


def _mark(run: RunFolder, name: str) -> Any:
    return run.mark(stage_named(name))


def _corpus(run: RunFolder, recipe: Recipe, repo: str, confirmed: str | None) -> Release:
    listed = _matching_manifest(run)
    # Rows of `lineage` have no text of their own: their conversations are counted in `data`.
    with_text = [p for name in ("data", "rejected") for p in (run.corpus / name).glob("*.parquet")]
    given = permission(row_ledger(sorted(with_text)), recipe.corpus.license, confirmed)
    files = [
        ReleaseFile(name, run.corpus / name, size, sha256)
        for name, (size, sha256) in listed.items()
        if name != CARD
    ]
    card = (run.corpus / CARD).read_text(encoding="utf-8")
    files.append(of_text(CARD, released_card(card, repo, given)))
    left_out = []
    if run.report.is_file():
        files.append(of_path(REPORT, run.report))
    else:
        left_out.append(f"{REPORT}: not made yet; `realchat report --run {run.root}`")
    return Release("corpus", recipe.name, tuple(files), given, tuple(left_out))


def _matching_manifest(run: RunFolder) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of the corpus' files; InputError when they are not what the run made."""
    again = f"make it anew: `realchat corpus --redo --run {run.root}`"
    if not run.manifest_file.is_file():
        raise InputError(
            f"{run.root} has no manifest.json: `realchat corpus --run {run.root}` writes it"
        )
    listed = {
        str(Path(file["path"]).relative_to("corpus")): (int(file["bytes"]), str(file["sha256"]))
        for file in read_json(run.manifest_file)["files"]
        if file["path"].startswith("corpus/")
    }
    there = {str(p.relative_to(run.corpus)) for p in run.corpus.rglob("*") if p.is_file()}
    wrong = sorted(there ^ listed.keys())
    wrong += [n for n in sorted(there & listed.keys()) if file_hash(run.corpus / n) != listed[n][1]]
    if wrong:
        raise InputError(
            f"{run.corpus} is not what the run made ({', '.join(wrong[:5])} "
            f"{'differs' if len(wrong) == 1 else 'differ'} from manifest.json); {again}"
        )
    if CARD not in there or not any(name.endswith(".parquet") for name in there):
        raise InputError(f"{run.corpus} holds no corpus; {again}")
    return dict(sorted(listed.items()))


def row_ledger(files: Sequence[Path]) -> list[Entry]:
    """Where the rows of Parquet files come from, and their licenses, counted."""
    import pyarrow.parquet as pq

    counts: Counter[tuple[str, str]] = Counter()
    for path in files:
        table = pq.read_table(path)
        columns = [
            table.column(name).to_pylist() if name in table.column_names else [""] * len(table)
            for name in ("source", "license")
        ]
        counts.update((source or "", name or "") for source, name in zip(*columns, strict=True))
    return [Entry(source, name, count) for (source, name), count in counts.most_common()]


def released_card(text: str, repo: str, given: Permission) -> str:
    """The corpus' card with the repository's name and the license that the release goes under."""
    # At the beginning of a line: a corpus' name may end in dashes.
    _, front, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    table: dict[str, Any] = yaml.safe_load(front)
    table = {"license": given.license} | {k: v for k, v in table.items() if k != "license"}
    table.pop("license_name", None)
    if given.license == "other":
        table["license_name"] = "stated-on-this-card"
    stated = [f"The corpus is published under: **{cell(given.license)}**."]
    if given.confirmed:
        stated.append(f"What the publisher states about it: {cell(given.confirmed)}")
    body = re.sub(
        r"^The corpus is published under: .*\n(Whoever publishes it .*\n)?",
        lambda _: "\n\n".join(stated) + "\n",
        body.replace(PLACEHOLDER, repo),
        flags=re.MULTILINE,
    )
    return f"---\n{yaml.safe_dump(table, sort_keys=False, allow_unicode=True)}---\n{body}"


def _model(run: RunFolder, recipe: Recipe, what: What, repo: str, confirmed: str | None) -> Release:
    is_user = what == "user-model"
    folder = run.user_model if is_user else run.assistant_model
    base = recipe.models.user if is_user else recipe.models.student
    learnt = run.people if is_user else run.corpus / "data"
    rows = row_ledger(sorted(learnt.glob("train*.parquet")))
    ledger = [Entry(f"base model {public_name(base)}", base_license(base), None), *rows]
    given = permission(ledger, confirmed=confirmed)
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    taken = [p for p in paths if p.suffix in CHECKPOINT_SUFFIXES and not p.name.startswith(".")]
    if not any(p.suffix == ".safetensors" for p in taken):
        raise InputError(f"{folder} holds no weights (*.safetensors); train it anew with --redo")
    files = [_checkpoint_file(path, folder) for path in taken]
    if not any(file.path == CARD for file in files):
        about = read_json(folder / "realchat.json") | {"base": public_name(base)}
        card = render_model_card(about, run.metrics(), recipe, repo, given)
        files.append(of_text(CARD, card))
    left_out = tuple(f"{p.relative_to(folder)}: not part of a checkpoint"
                     for p in paths if p not in taken)  # fmt: skip
    return Release(what, recipe.name, tuple(files), given, left_out)


def _checkpoint_file(path: Path, folder: Path) -> ReleaseFile:
    """The file as it is; but folders of this machine do not go into the world."""
    name = path.relative_to(folder).as_posix()
    if path.name in NAME_BASES:
        about, key = read_json(path), NAME_BASES[path.name]
        public = about | {key: public_name(str(about.get(key) or ""))}
        if about.get(key) and public != about:
            return of_text(name, json.dumps(public, indent=2, ensure_ascii=False) + "\n")
    return of_path(name, path)


def base_license(base: str) -> str:
    """The license of a base model: of an embedded one, or what its own card says; "unknown"."""
    if base in EMBEDDED:
        return EMBEDDED[base].license
    card = Path(base).expanduser() / CARD
    if not card.is_file() and not Path(base).exists():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(base, CARD)
        except HFValidationError:
            return "unknown"
        card = Path(found) if isinstance(found, str) else card
    return _license_on(card)


def _license_on(card: Path) -> str:
    try:
        front = card.read_text(encoding="utf-8").split("---\n", 2)[1]
        return str(yaml.safe_load(front)["license"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return "unknown"


def _manifest(release: Release, facts: dict[str, Any]) -> ReleaseFile:
    """manifest.json: what this is, what made it, and every other file of it."""
    table = {
        "realchat": version("realchat"),
        "what": release.what,
        "run": release.name,
        **facts,
        "license": release.permission.license,
        "license_confirmed": release.permission.confirmed,
        "files": [{"path": f.path, "bytes": f.size, "sha256": f.sha256} for f in release.files],
    }
    return of_text(MANIFEST, json.dumps(table, indent=2, ensure_ascii=False) + "\n")


def of_text(path: str, text: str) -> ReleaseFile:
    """A file with this text."""
    content = text.encode()
    return ReleaseFile(path, content, len(content), hashlib.sha256(content).hexdigest())


def of_path(path: str, source: Path) -> ReleaseFile:
    """A file with the bytes of another."""
    return ReleaseFile(path, source, source.stat().st_size, file_hash(source))


def _blocks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as handle:
        while block := handle.read(2**20):
            yield block
