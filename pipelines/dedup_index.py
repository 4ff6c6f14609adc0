"""The index of conversations that were kept earlier: what a new batch is deduplicated against.

    realchat curate --recipe mine.yaml 'curate.dedup.against=[runs/january, people/train.parquet]'

A run stands for what it kept, a corpus for its data files, a file for itself. Their traces (ids,
content hashes, signature matrices: no text, no pickle) are made once and lie in a folder `index`
beside them: 2.1 kB a conversation under the default units. What is shown to be alike is verified on
the texts, which are read from the conversations' own files.
"""

from collections.abc import Iterable
from pathlib import Path

from pipelines.near import Loadable
from pipelines.traces import Part, Traces, TraceShape
from usersim.errors import InputError, WorldError
from usersim.files import fingerprint, read_conversations, read_json, write_json
from usersim.progress import track


def kept_earlier(paths: Iterable[Path], shape: TraceShape) -> list[Loadable]:
    """The parts that `paths` stand for, in their order; indexed first where they are not yet.

    Raises InputError when a path holds no conversations of ours.
    """
    files = [file for path in paths for file in conversation_files(path)]
    if not files:
        return []
    with track("index of earlier conversations", total=len(files), unit="files") as bar:
        parts: list[Loadable] = []
        for file in files:
            parts.append(_indexed(file, shape))
            bar.advance()
    return parts


def conversation_files(path: Path) -> list[Path]:
    """The Parquet files of conversations that a path stands for, in order.

    A file, a run's folder (what it kept), a corpus (`data/`), or a folder of Parquet files. Raises
    InputError when there are none.
    """
    if path.is_file():
        return [path]
    for folder in (path / "curated", path / "data", path):
        if found := sorted(folder.glob("*.parquet")):
            return found
    raise InputError(
        f"curate.dedup.against: no conversations (*.parquet) in {path}; name a run, a corpus or a "
        "Parquet file"
    )


def _indexed(file: Path, shape: TraceShape) -> Loadable:
    seen = file.stat()
    # Names repeat between folders, and a corpus is published whole: nothing may be put into it.
    folder = file.parent.parent.parent if file.parent.name == "data" else file.parent
    stem = folder / "index" / f"{file.stem}-{fingerprint(str(file.resolve()))[:8]}"
    mark = stem.with_name(f"{stem.name}.json")
    wanted = fingerprint([shape.print, seen.st_size, seen.st_mtime_ns])
    if not mark.exists() or read_json(mark).get("print") != wanted:
        conversations = read_conversations(file)
        traces = Traces.of(conversations, [0] * len(conversations), shape)
        try:
            traces.write(stem)
            write_json(mark, {"print": wanted, "rows": len(traces)})
        except WorldError:  # a folder that may only be read: the index is made anew each time
            return traces.kept_earlier()
    return Part(file, stem, is_old=True)
