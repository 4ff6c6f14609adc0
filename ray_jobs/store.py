"""Finished shards in an object store, or in any file system that pyarrow or fsspec knows by a URI.

The run folder stays where every node sees it, for the journals need a file system with locks. What
is finished is copied: a shard when it is whole, `manifest.json` with all hashes last, so that
whoever finds a manifest finds everything that it lists.
"""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from usersim.errors import InputError, WorldError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

RENAMING = ("local", "hdfs", "fsspec")  # where a half-written file would be seen: rename it


class Store:
    """A folder at a URI: `s3://bucket/run`, `gs://...`, `file:///mnt/big`, `memory://x`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self._root = _opened(uri)

    def put(self, path: Path, name: str) -> None:
        """Copy a file; under its name it is whole or not there. Raises WorldError."""
        target = f"{self._root}/{name}"
        renames = self._fs.type_name.startswith(RENAMING)
        # Object stores show a file when its upload is complete.
        first = f"{target}.{uuid.uuid4().hex[:12]}.tmp" if renames else target
        try:
            self._fs.create_dir(target.rpartition("/")[0], recursive=True)
            with path.open("rb") as source, self._fs.open_output_stream(first) as out:
                while block := source.read(1 << 22):
                    out.write(block)
            if renames:
                self._fs.move(first, target)
        except OSError as error:
            raise WorldError(f"cannot copy {path.name} to {self.uri}: {error}") from error

    def sizes(self, folder: str) -> dict[str, int]:
        """Sizes of the files of a folder in the store, by their names there."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        try:
            found = self._fs.get_file_info(selector)
        except OSError as error:
            raise WorldError(f"cannot list {self.uri}/{folder}: {error}") from error
        return {f"{folder}/{f.base_name}": f.size for f in found if f.type == FileType.File}

    def complete(self, root: Path, folder: str) -> int:
        """Copy the Parquet files of a run's folder that are not there in their size; how many."""
        there, copied = self.sizes(folder), 0
        for path in sorted((root / folder).glob("*.parquet")):
            name = f"{folder}/{path.name}"
            if there.get(name) != path.stat().st_size:
                self.put(path, name)
                copied += 1
        return copied


def _opened(uri: str) -> "tuple[FileSystem, str]":
    import pyarrow as pa
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    if "://" not in uri:
        raise InputError(f"{uri!r} is no URI: write s3://bucket/folder or file:///folder")
    try:
        system, root = FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        try:
            import fsspec

            found, root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise InputError(f"cannot open {uri}: {error}") from error
        system = PyFileSystem(FSSpecHandler(found))
    except OSError as error:
        raise WorldError(f"cannot open {uri}: {error}") from error
    return system, root.rstrip("/")
