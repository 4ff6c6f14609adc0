"""Publishing: a release goes to a hub whole, or does not show there.

The bytes of the large files are sent first and show nowhere. Then one commit on top of the head
that was looked at brings all files, the card and the manifest among them; then everything is listed
and compared; then the commit is tagged. Each step asks what is there already, so the same command
goes on after any interruption, and what is there is not sent again.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, get_args

from pipelines.hub import Hub, RemoteFile, State
from pipelines.release import CARD, MANIFEST, REPORT, Release, ReleaseFile
from pipelines.subsets import Subset
from usersim.errors import InputError, WorldError
from usersim.progress import track

FILES_AT_ONCE = 8  # preuploaded between two looks at the progress
# One commit is whole or absent. A hub takes some hundred files in one; beyond that, data files go
# ahead in commits of their own, and only the last one brings the card and the manifest.
FILES_PER_COMMIT = 500
LAST = frozenset({CARD, MANIFEST, REPORT})
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
HARMLESS = frozenset({".gitattributes", ".gitignore", CARD, "LICENSE"})
DATA_SUFFIXES = frozenset({".parquet", ".safetensors"})


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who publishes asked for."""

    public: bool = False
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a repository lacks to hold a release: files to send, and old ones to remove."""

    send: tuple[ReleaseFile, ...]
    remove: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.send or self.remove)


@dataclass(frozen=True, slots=True)
class Published:
    """A release that was found whole in its repository."""

    url: str
    commit: str
    tag: str
    files: int
    sent: int
    """Files that were not there before."""


def publish(release: Release, hub: Hub, wishes: Wishes) -> Published:
    """Bring a release to the hub, check what arrived, and tag it.

    Raises:
        InputError: no token, no right to write, a repository or tag of something else.
        WorldError: the hub or the connection fails for long, somebody else commits meanwhile, or
            what arrived is not what was sent. No tag is set then.
    """
    if not hub.has_token:
        raise InputError("no token to publish with: set HF_TOKEN, or `hf auth login`")
    state = hub.state()
    check_repository(release, hub, wishes, state)
    if state is None:
        hub.create(private=not wishes.public)
    before = {} if state is None else state.files
    sent = len(changes(release, before).send)
    commit = hub.attempt("sending files", lambda: _bring(release, hub))
    _verify(release, hub, commit)
    tag = _tag(hub, wishes.tag, commit)
    return Published(hub.url, commit, tag, len(release.files), sent)


def check_repository(release: Release, hub: Hub, wishes: Wishes, state: State | None) -> None:
    """Raise InputError when the release must not go there."""
    if wishes.tag is not None and not TAG.fullmatch(wishes.tag):
        raise InputError(f"--tag {wishes.tag}: letters, digits, dots, dashes; 100 at most")
    if state is None:
        return
    if not state.private and not wishes.public:
        raise InputError(f"{hub.repo} is there and public; add --public if all may see the release")
    if state.private and wishes.public:
        raise InputError(f"{hub.repo} is there and private; show it to all in its settings first")
    ours = HARMLESS | {file.path for file in release.files}
    strangers = sorted(state.files.keys() - ours)
    if strangers and MANIFEST not in state.files:
        raise InputError(
            f"{hub.repo} holds something else ({', '.join(strangers[:3])}); name a new repository"
        )


def changes(release: Release, there: dict[str, RemoteFile]) -> Changes:
    """What is missing or differs there, and data files of an earlier release that must go."""
    ours = {file.path for file in release.files}
    folders = {PurePosixPath(path).parent for path in ours}
    if release.what == "corpus":  # a subset that is published no more goes, too
        folders |= set(map(PurePosixPath, get_args(Subset)))
    stale = [
        path
        for path in sorted(there.keys() - ours)
        if PurePosixPath(path).suffix in DATA_SUFFIXES and PurePosixPath(path).parent in folders
    ]
    send = [f for f in release.files if not same(f, there.get(f.path))]
    return Changes(tuple(send), tuple(stale))


def same(file: ReleaseFile, there: RemoteFile | None) -> bool:
    """Whether the hub holds these bytes, by size and hash."""
    if there is None or there.size != file.size:
        return False
    if there.sha256 is not None:
        return there.sha256 == file.sha256
    return there.git_sha1 == file.git_sha1()


def _bring(release: Release, hub: Hub) -> str:
    """One try: look what is missing, send it, commit it; returns the commit that holds all.

    An answer that got lost is no harm: the next try finds everything there.
    """
    state = hub.state()
    if state is None:
        raise WorldError(f"{hub.repo} went away while files were sent")
    head = state.commit
    todo = changes(release, state.files)
    if not todo:
        return head
    additions = {file.path: _addition(file) for file in todo.send}
    _preupload(hub, list(additions.values()))
    for operations, message in _commits(additions, todo.remove, release):
        head = hub.commit(operations, message, head)
    return head


def _addition(file: ReleaseFile) -> Any:
    from huggingface_hub import CommitOperationAdd

    content = file.content if isinstance(file.content, bytes) else str(file.content)
    operation = CommitOperationAdd(file.path, content)
    operation.upload_info.sha256 = bytes.fromhex(file.sha256)  # known: not computed again
    return operation


def _preupload(hub: Hub, operations: Sequence[Any]) -> None:
    with track("publish", total=len(operations), unit="files") as bar:
        for start in range(0, len(operations), FILES_AT_ONCE):
            batch = operations[start : start + FILES_AT_ONCE]
            hub.preupload(batch)
            bar.advance(len(batch))


def _commits(
    additions: dict[str, Any], remove: Sequence[str], release: Release
) -> Iterator[tuple[list[Any], str]]:
    """The commits to make, with their messages; all but the last one hold data files only."""
    from huggingface_hub import CommitOperationDelete

    data = [operation for path, operation in additions.items() if path not in LAST]
    last = [operation for path, operation in additions.items() if path in LAST]
    while len(data) > FILES_PER_COMMIT:
        batch, data = data[:FILES_PER_COMMIT], data[FILES_PER_COMMIT:]
        yield batch, f"Data files of {release.name}, not a release yet"
    deletions = [CommitOperationDelete(path) for path in remove]
    yield [*data, *last, *deletions], f"Release the {release.what} of {release.name}"


def _verify(release: Release, hub: Hub, commit: str) -> None:
    """List what arrived; WorldError when it is not the release."""
    wrong = changes(release, hub.listing(commit))
    if wrong:
        names = [file.path for file in wrong.send] + list(wrong.remove)
        raise WorldError(
            f"{hub.repo}: what arrived is not what was sent ({', '.join(names[:5])}); it is not "
            "tagged; give the same command again"
        )


def _tag(hub: Hub, wanted: str | None, commit: str) -> str:
    """Tag the commit as `wanted`, or as the next of v1, v2 ...; a tag that it has is kept."""
    tags = hub.tags()
    own = sorted(name for name, target in tags.items() if target == commit)
    if wanted is None and own:
        return own[-1]
    name = wanted or next_tag(tags)
    if name not in tags:
        hub.tag(name, commit)
        tags = hub.tags()
    if tags.get(name) != commit:
        raise InputError(f"{hub.repo} has a tag {name} of another commit; name a new one: --tag")
    return name


def next_tag(tags: Sequence[str] | dict[str, str]) -> str:
    """v1, or one more than the highest of v1, v2 ..."""
    numbers = [int(name[1:]) for name in tags if re.fullmatch(r"v[0-9]{1,9}", name)]
    return f"v{max(numbers, default=0) + 1}"
