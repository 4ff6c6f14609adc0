"""Finished shards in an object store, or in any file system that pyarrow or fsspec knows by a URI.

The run folder stays where every node sees it, for the journals need a file system with locks. What
is finished is copied: a shard when it is whole, `manifest.json` with all hashes last, so that
whoever finds a manifest finds everything that it lists.
"""

import json
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from usersim.errors import InputError, WorldError
from usersim.files import read_json
from usersim.progress import track

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

RENAMING = ("local", "hdfs", "fsspec")  # where a half-written file would be seen: rename it
_SECRET = re.compile(r"[^/]+://[^/@]*:[^/]*@")
PAUSES_S = (1.0, 4.0, 15.0)
"""Before each new try: a store that is out for a moment shall cost no worker and no engine."""


class Store:
    """A folder at a URI: `s3://bucket/run`, `gs://...`, `file:///mnt/big`, `memory://x`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self._root = _opened(uri)

    def check(self) -> None:
        """Make the folder: who may not is told now. Raises WorldError."""
        try:
            self._fs.create_dir(self._root, recursive=True)
        except OSError as error:
            raise WorldError(f"cannot write to {self.uri}: {error}") from error

    def put(self, path: Path, name: str) -> None:
        """Copy a file; under its name it is whole or not there.

        Raises WorldError when the store still refuses it after PAUSES_S, or the file is gone.
        """
        target = f"{self._root}/{name}"
        # pyarrow calls what fsspec opened `py::fsspec+memory`, HDFS `hdfs`, this machine `local`.
        renames = any(kind in self._fs.type_name for kind in RENAMING)
        # Object stores show a file when its upload is complete.
        first = f"{target}.{uuid.uuid4().hex[:12]}.tmp" if renames else target
        for pause in (*PAUSES_S, None):
            try:
                self._copy(path, first, target)
            except OSError as error:
                if pause is None or not path.exists():
                    raise WorldError(f"cannot copy {path.name} to {self.uri}: {error}") from error
                time.sleep(pause)
            else:
                return

    def _copy(self, path: Path, first: str, target: str) -> None:
        self._fs.create_dir(target.rpartition("/")[0], recursive=True)
        with path.open("rb") as source, self._fs.open_output_stream(first) as out:
            while block := source.read(1 << 22):
                out.write(block)
        if first != target:
            self._fs.move(first, target)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file in the store, by their names there. Raises WorldError."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._root, allow_not_found=True, recursive=True)
        try:
            found = self._fs.get_file_info(selector)
        except OSError as error:
            raise WorldError(f"cannot list {self.uri}: {error}") from error
        start = len(self._root) + 1
        return {f.path[start:]: f.size for f in found if f.type == FileType.File}

    def publish(self, root: Path, manifest: Path) -> int:
        """Copy what a run's manifest lists and is not there, then the manifest; how many files.

        There is what has the listed size, unless the manifest in the store knows another content.
        Raises WorldError.
        """
        listed = {entry["path"]: entry for entry in read_json(manifest)["files"]}
        there = self.sizes()
        known = self._hashes(manifest.name) if manifest.name in there else {}
        missing = [
            name
            for name, entry in listed.items()
            if there.get(name) != entry["bytes"] or known.get(name) not in (None, entry["sha256"])
        ]
        if missing:
            with track("store", len(missing), "files") as bar:
                for name in missing:
                    self.put(root / name, name)
                    bar.advance(1)
        self.put(manifest, manifest.name)
        return len(missing)

    def _hashes(self, manifest: str) -> dict[str, str]:
        try:
            with self._fs.open_input_stream(f"{self._root}/{manifest}") as stream:
                found = json.loads(stream.read())
            return {entry["path"]: entry["sha256"] for entry in found["files"]}
        except OSError as error:
            raise WorldError(f"cannot read {self.uri}/{manifest}: {error}") from error
        except (ValueError, KeyError, TypeError):
            return {}  # none of ours, or half a one: it will be replaced


def _opened(uri: str) -> "tuple[FileSystem, str]":
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    if "://" not in uri:
        raise InputError(f"{uri!r} is no URI: write s3://bucket/folder or file:///folder")
    if _SECRET.match(uri):
        raise InputError(
            "--store holds a key or password, which logs would show: leave it out and set it in the"
            " environment of the head and of every node (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    try:
        system, root = FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        system, root = _by_fsspec(uri)
    except OSError as error:
        raise WorldError(f"cannot open {uri}: {error}") from error
    if not root.strip("/"):
        raise InputError(f"{uri!r} names no folder: write s3://bucket/folder or file:///folder")
    return system, root.rstrip("/")


def _by_fsspec(uri: str) -> "tuple[FileSystem, str]":
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        found, root = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(f"cannot open {uri}: {error}") from error
    except OSError as error:
        raise WorldError(f"cannot open {uri}: {error}") from error
    if isinstance(found, LocalFileSystem):  # pyarrow takes full paths: this one begins in our own
        raise InputError(f"{uri!r} is no full path: write file:///folder, with three slashes")
    return PyFileSystem(FSSpecHandler(found)), root
