"""A repository on a model hub, through the hub's own client, with every failure explained.

What may pass by itself (429, 5xx, 409, a broken connection) is tried again, a bounded number of
times; the rest is told in one message. The token is read from HF_TOKEN or the hub's own login, and
is part of no message.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, Literal, TypeVar

from pipelines.failures import DEBUG
from usersim.errors import InputError, RealchatError, WorldError

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

PAUSES = (1.0, 4.0, 15.0, 60.0)  # seconds between the tries of one request: five tries in all
LONGEST_PAUSE = 300.0  # the hub's own rate windows are five minutes long
STALLED_SECONDS = 300.0  # without a byte, a connection counts as broken
AGAIN = "the same command goes on from here"
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
UPLOADS_AT_ONCE = 5

# What to do about an answer, by its status. {repo} and {doing} are filled in.
REFUSALS = {
    400: "the hub refuses {doing} as malformed",
    401: "the hub does not accept the token: make one with write access and `hf auth login` again",
    402: "the hub asks for payment (storage of private repositories is limited)",
    403: "the token may not do that: it needs write access to {repo}",
    404: "the hub has no {repo}, or does not show it to this token",
    413: "the hub finds {doing} too large",
    422: "the hub refuses {doing}",
}


class Moved(WorldError):
    """Somebody else committed in the meantime."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it: its size, its git id, and its SHA-256 when it is a large one."""

    size: int
    git_sha1: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class State:
    """The head commit of a repository, and what stands there."""

    commit: str
    private: bool
    files: dict[str, RemoteFile]


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong: whether it may pass, what to tell, and how long the hub asks to wait."""

    passes: bool
    error: RealchatError
    wait: float = 0.0


class Hub:
    """One repository, by its type and its `owner/name`; `pauses` are those between tries."""

    def __init__(
        self,
        repo: str,
        repo_type: Literal["dataset", "model"],
        pauses: Sequence[float] = PAUSES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        from huggingface_hub import HfApi, get_token

        if repo.count("/") != 1:
            raise InputError(f"--repo {repo}: name the owner too, as in owner/{repo}")
        self.repo, self.repo_type = repo, repo_type
        self._pauses, self._sleep = pauses, sleep
        self._token = get_token()
        # The client reads HF_ENDPOINT when it is imported; here it counts when it is used.
        self._api = HfApi(
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            token=self._token or False,
            library_name="realchat",
        )
        _restrain_client()

    @property
    def has_token(self) -> bool:
        """Whether there is a token to publish with."""
        return bool(self._token)

    @property
    def url(self) -> str:
        """Where people find the repository."""
        folder = "datasets/" if self.repo_type == "dataset" else ""
        return f"{self._api.endpoint}/{folder}{self.repo}"

    def state(self) -> State | None:
        """What stands in the repository now; None when there is none."""
        return self.attempt("looking at it", self._state)

    def create(self, *, private: bool) -> None:
        """Make the repository, unless it is there."""
        self.attempt(
            "making it",
            lambda: self._api.create_repo(
                self.repo, repo_type=self.repo_type, private=private, exist_ok=True
            ),
        )

    def listing(self, commit: str) -> dict[str, RemoteFile]:
        """The files of a commit."""
        return self.attempt("listing it", lambda: self._listing(commit))

    def preupload(self, operations: Sequence[Any]) -> None:
        """Send the bytes of large files; nothing shows in the repository yet. Not tried again."""
        self._api.preupload_lfs_files(
            self.repo,
            operations,
            repo_type=self.repo_type,
            num_threads=UPLOADS_AT_ONCE,
            free_memory=False,
        )

    def commit(self, operations: Sequence[Any], message: str, parent: str) -> str:
        """Commit on top of `parent` and nothing else; returns the commit. Not tried again.

        Raises Moved when the head is another by now.
        """
        done = self._api.create_commit(
            self.repo,
            operations,
            commit_message=message,
            repo_type=self.repo_type,
            parent_commit=parent,
        )
        return str(done.oid)

    def tags(self) -> dict[str, str]:
        """Commit by tag."""
        refs = self.attempt(
            "reading its tags",
            lambda: self._api.list_repo_refs(self.repo, repo_type=self.repo_type),
        )
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tag(self, name: str, commit: str) -> None:
        """Tag a commit. A tag of this name is left as it is: the caller looks where it points."""
        self.attempt(
            "tagging the release",
            lambda: self._api.create_tag(
                self.repo, tag=name, revision=commit, repo_type=self.repo_type, exist_ok=True
            ),
        )

    def attempt(self, doing: str, work: Callable[[], Answer]) -> Answer:
        """Do something that may be done twice, after each pause again. Raises the fault's error."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        for pause in (*self._pauses, None):
            try:
                return work()
            except (HTTPError, OSError, RuntimeError, ValueError) as error:
                # While files are sent, the client wraps what really happened.
                inner = error.__cause__ if isinstance(error, RuntimeError) else error
                fault = self._fault(inner or error, doing)
            # Raised out here, so that the client's error, which may quote what it sent, is not
            # part of a traceback.
            if pause is None or not fault.passes:
                raise fault.error
            if fault.wait > LONGEST_PAUSE:
                raise WorldError(f"the hub asks to wait {fault.wait:.0f} s; then {AGAIN}")
            seconds = max(pause, fault.wait)
            log.warning("%s (trying again in %.0f s)", fault.error, seconds)
            self._sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def _state(self) -> State | None:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self._api.repo_info(self.repo, repo_type=self.repo_type)
        except RepositoryNotFoundError as error:
            # The hub says 401 instead of 404 to those whose token it does not know.
            if error.response.status_code == 401 and self.has_token:
                raise
            return None
        return State(str(info.sha), bool(info.private), self._listing(str(info.sha)))

    def _listing(self, commit: str) -> dict[str, RemoteFile]:
        from huggingface_hub.hf_api import RepoFile

        tree = self._api.list_repo_tree(
            self.repo, recursive=True, revision=commit, repo_type=self.repo_type
        )
        return {
            f.path: RemoteFile(f.size, f.blob_id, f.lfs.sha256 if f.lfs else None)
            for f in tree
            if isinstance(f, RepoFile)
        }

    def _fault(self, error: BaseException, doing: str) -> Fault:
        response = getattr(error, "response", None)
        if response is not None:
            return self._refusal(response, getattr(error, "server_message", None), doing)
        told = self._redacted(f"{type(error).__name__}: {error}")
        if type(error).__name__ == "OfflineModeIsEnabled":
            return Fault(False, InputError("HF_HUB_OFFLINE is set; publishing needs the network"))
        if isinstance(error, ValueError) and not isinstance(error, JSONDecodeError):
            return Fault(False, InputError(self._redacted(f"{self.repo}: {error}")))
        if isinstance(error, OSError) and error.filename is not None:
            return Fault(False, WorldError(f"cannot read a file of the run while {doing}: {told}"))
        return Fault(
            True,
            WorldError(f"{self.repo}: the connection broke while {doing} ({told}); {AGAIN}"),
        )

    def _refusal(self, response: Any, server_message: str | None, doing: str) -> Fault:
        """What a status other than success means."""
        status = int(response.status_code)
        says = f" (it says: {self._redacted(server_message)})" if server_message else ""
        if status == 412:
            return Fault(False, Moved(
                f"somebody else committed to {self.repo} in the meantime (412); nothing of this "
                "release shows there: look at it, then give the same command again"))  # fmt: skip
        if status in TRANSIENT or status >= 500:
            error = WorldError(
                f"{self.repo}: the hub answers {status} while {doing}{says}; {AGAIN}"
            )
            return Fault(True, error, _retry_after(response))
        told = REFUSALS.get(status, "the hub refuses").format(repo=self.repo, doing=doing)
        return Fault(False, InputError(f"{self.repo}: {told} ({status} while {doing}){says}"))

    def _redacted(self, text: str) -> str:
        one_line = " ".join(text.split())
        # First the token, then the cut: half of it would not be found.
        return (one_line.replace(self._token, "[token]") if self._token else one_line)[:500]


def _retry_after(response: Any) -> float:
    """Seconds that the hub asks to wait; 0 when it asks for none that can be read."""
    value = str(response.headers.get("Retry-After", "")).strip()
    return float(value) if value.isdigit() else 0.0


def _restrain_client() -> None:
    """Give the client a time limit (it has none), and keep its retries out of the terminal.

    Its log lines name upload addresses, which are signed.
    """
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import logging as hub_logging

    if not os.environ.get(DEBUG):
        hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    kind, hooks = type(get_session()), get_session().event_hooks
    set_client_factory(
        lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=STALLED_SECONDS)
    )
