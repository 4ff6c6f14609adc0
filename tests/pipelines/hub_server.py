"""A model hub on loopback, as much of it as the real client and `datasets` talk to.

Repositories are kept in memory: commits as trees of git blobs and large files. A test puts faults
before or after steps (`info`, `create`, `yaml`, `preupload`, `batch`, `put`, `verify`, `commit`,
`tree`, `refs`, `tag`): a status, a cut connection, bytes that go wrong, or a hold during which the
client can be killed.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "TestTokenThatMustNotShow"
LARGE = (".parquet", ".safetensors", ".bin")
ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    private: bool
    commits: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def tree(self, revision: str) -> dict[str, Any] | None:
        """Path -> bytes of a small file, or (sha256, size) of a large one."""
        commit = self.head if revision == "main" else self.tags.get(revision, revision)
        return dict(self.commits).get(commit)

    def add(self, tree: dict[str, Any], message: str) -> str:
        oid = hashlib.sha1(f"{len(self.commits)}{message}{sorted(tree)}".encode()).hexdigest()
        self.commits.append((oid, tree))
        self.messages.append(message)
        return oid


@dataclass
class Fault:
    """What happens at a step; `after`: the hub does the step, but the answer is lost."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "injected"
    cut: bool = False
    after: bool = False
    hold: threading.Event | None = None
    """The step waits here and is then not done: time to kill the client."""
    reached: threading.Event = field(default_factory=threading.Event)
    act: Callable[[], None] | None = None


class Cut(Exception):
    """The connection ends without an answer."""


class Answered(Exception):
    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None):
        self.status, self.body, self.headers = status, body, headers or {}


class LocalHub(ThreadingHTTPServer):
    """`with LocalHub() as hub:` serves at `hub.url`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.store: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.puts: list[str] = []
        self.faults: dict[str, list[Fault]] = {}
        self.may_write = True
        self.part_size: int | None = None
        self.lock = threading.RLock()

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in [f for faults in self.faults.values() for f in faults]:
            if fault.hold:
                fault.hold.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None: ...  # a client that was killed is no news

    def fail(self, step: str, *faults: Fault) -> Fault:
        self.faults.setdefault(step, []).extend(faults)
        return faults[-1]

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        return self.repos[f"{kind}s/{name}"]

    def files(self, name: str, kind: str = "dataset", revision: str = "main") -> dict[str, bytes]:
        """What arrived: every file's bytes, but for .gitattributes."""
        tree = self.repo(name, kind).tree(revision)
        return {p: self.content(f) for p, f in tree.items() if p != ".gitattributes"}

    def content(self, entry: Any) -> bytes:
        return entry if isinstance(entry, bytes) else self.store[entry[0]]


class Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement
    body: bytes = b""

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "yaml"),
        ("POST", r"/api/(datasets|models)/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        ("POST", r"/(datasets/|)([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/([0-9a-f]{64})(?:/(\d+))?", "put"),
        ("POST", r"/lfs-whole/([0-9a-f]{64})", "whole"),
        ("POST", r"/lfs-verify", "verify"),
        ("POST", r"/api/(datasets|models)/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        ("GET", r"/api/(datasets|models)/([^/]+/[^/]+)/refs", "refs"),
        ("POST", r"/api/(datasets|models)/([^/]+/[^/]+)/tag/([^/]+)", "tag"),
        ("GET", r"/api/(datasets|models)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", "tree"),
        ("POST", r"/api/(datasets|models)/([^/]+/[^/]+)/paths-info/([^/]+)", "paths"),
        ("GET", r"/api/(datasets|models)/([^/]+/[^/]+)(?:/revision/([^/]+))?", "info"),
        ("GET|HEAD", r"/(datasets/|)([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    )

    def log_message(self, *_: object) -> None: ...

    def do_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self._chunked()
        path = unquote(urlsplit(self.path).path)
        for methods, pattern, step in self.ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in methods.split("|"):
                return self._step(step, found.groups())
        return self._send(404, {"error": f"no route {self.command} {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = do_any

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _step(self, step: str, groups: tuple[str | None, ...]) -> None:
        with self.server.lock:
            self.server.calls.append(step)
            waiting = self.server.faults.get(step, [])
            fault = waiting.pop(0) if waiting else None
        try:
            if fault and not fault.after:
                self._fail(fault)
            if step not in ("put", "whole", "resolve"):
                self._authorize(step)
            answered = self._do(step, groups)
            if fault and fault.after:
                self._fail(fault)
            self._send(answered.status, answered.body, answered.headers)
        except Answered as answered:
            self._send(answered.status, answered.body, answered.headers)
        except Cut:
            self.close_connection = True
            self.connection.close()

    def _do(self, step: str, groups: tuple[str | None, ...]) -> Answered:
        try:
            with self.server.lock:
                return Answered(200, getattr(self, f"on_{step}")(*groups))
        except Answered as answered:
            return answered

    def _fail(self, fault: Fault) -> None:
        fault.reached.set()
        if fault.act:
            fault.act()
        if fault.hold:
            fault.hold.wait(60)
            raise Cut
        if fault.cut:
            raise Cut
        if fault.status:
            message = fault.message.replace("{authorization}", self.headers["Authorization"] or "")
            raise Answered(fault.status, {"error": message}, fault.headers)

    def _authorize(self, step: str) -> None:
        given = self.headers.get("Authorization")
        if given != f"Bearer {TOKEN}":
            raise Answered(401, {"error": "Invalid username or password."})
        if step in ("create", "preupload", "commit", "tag", "batch") and not self.server.may_write:
            raise Answered(403, {"error": "You don't have the rights to do that"})

    def _send(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _repo(self, kind: str | None, name: str | None) -> Repo:
        prefix = "datasets" if (kind or "").startswith("datasets") else "models"
        repo = self.server.repos.get(f"{prefix}/{name}")
        if repo is None:
            raise Answered(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return repo

    def _tree(self, kind: str | None, name: str | None, revision: str) -> dict[str, Any]:
        tree = self._repo(kind, name).tree(revision)
        if tree is None:
            raise Answered(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        return tree

    def on_create(self) -> Any:
        asked = json.loads(self.body)
        key = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
        url = f"{self.server.url}/{key.removeprefix('models/')}"
        if key in self.server.repos:
            raise Answered(409, {"error": "You already created this repo", "url": url})
        repo = Repo(private=asked.get("visibility") == "private")
        repo.add({".gitattributes": ATTRIBUTES}, "initial commit")
        self.server.repos[key] = repo
        return {"url": url}

    def on_yaml(self) -> Any:
        content = json.loads(self.body)["content"]
        if not content.startswith("---\n"):
            raise Answered(400, {"errors": [{"message": "no metadata"}], "warnings": []})
        return {"errors": [], "warnings": []}

    def on_preupload(self, kind: str, name: str, _: str) -> Any:
        tree = self._repo(kind, name).tree("main")
        rows = []
        for file in json.loads(self.body)["files"]:
            there = tree.get(file["path"])
            oid = (
                None if there is None else there[0] if isinstance(there, tuple) else git_sha1(there)
            )
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            rows.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            )
        return {"files": rows}

    def on_batch(self, *_: str) -> Any:
        return {"objects": [self._object(o) for o in json.loads(self.body)["objects"]]}

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        oid, size, url = asked["oid"], asked["size"], self.server.url
        row: dict[str, Any] = {"oid": oid, "size": size}
        if oid in self.server.store:
            return row
        upload: dict[str, Any] = {"href": f"{url}/lfs/{oid}"}
        if part := self.server.part_size:
            numbers = range(1, -(-size // part) + 1)
            parts = {str(n): f"{url}/lfs/{oid}/{n}" for n in numbers}
            upload = {
                "href": f"{url}/lfs-whole/{oid}",
                "header": {"chunk_size": str(part), **parts},
            }
        return row | {"actions": {"upload": upload, "verify": {"href": f"{url}/lfs-verify"}}}

    def on_put(self, oid: str, part: str | None) -> Any:
        if part is not None:
            self.server.store[f"{oid}/{int(part):05d}"] = self.body
            raise Answered(200, {}, {"ETag": f'"{part}"'})
        return self._keep(oid, self.body)

    def on_whole(self, oid: str) -> Any:
        parts = sorted(key for key in self.server.store if key.startswith(f"{oid}/"))
        return self._keep(oid, b"".join(self.server.store.pop(key) for key in parts))

    def _keep(self, oid: str, content: bytes) -> Any:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Answered(400, {"error": "other bytes than announced"})
        self.server.puts.append(oid)
        self.server.store[oid] = content
        return {}

    def on_verify(self) -> Any:
        if json.loads(self.body)["oid"] not in self.server.store:
            raise Answered(404, {"error": "no such object"})
        return {}

    def on_commit(self, kind: str, name: str, _: str) -> Any:
        repo = self._repo(kind, name)
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit") not in (None, repo.head):
            raise Answered(412, {"error": "A commit has happened since. Please refresh"})
        tree = dict(repo.tree("main"))
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                content = self.server.store.get(value["oid"])
                if content is None:
                    raise Answered(400, {"error": f"LFS object {value['oid']} is not there"})
                tree[value["path"]] = (value["oid"], len(content))
            else:
                del tree[value["path"]]
        oid = repo.add(tree, header["value"]["summary"])
        return {"commitUrl": f"{self.server.url}/{kind}/{name}/commit/{oid}", "commitOid": oid}

    def on_refs(self, kind: str, name: str) -> Any:
        repo = self._repo(kind, name)
        tags = [
            {"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repo.tags.items()
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
        return {"branches": [main], "converts": [], "tags": tags}

    def on_tag(self, kind: str, name: str, revision: str) -> Any:
        repo, tag = self._repo(kind, name), json.loads(self.body)["tag"]
        if tag in repo.tags:
            raise Answered(409, {"error": "Tag reference exists already"})
        repo.tags[tag] = repo.head if revision == "main" else revision
        return {}

    def on_tree(self, kind: str, name: str, revision: str, under: str | None) -> Any:
        tree = self._tree(kind, name, revision)
        inside = f"{under}/" if under else ""
        found = {p: f for p, f in tree.items() if p.startswith(inside)}
        if under and not found:
            raise Answered(404, {"error": "no entry"}, {"X-Error-Code": "EntryNotFound"})
        deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        folders = {p[: p.index("/", len(inside))] for p in found if "/" in p[len(inside) :]}
        rows = [
            {"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in sorted(folders)
        ]
        files = [p for p in sorted(found) if deep or "/" not in p[len(inside) :]]
        return rows + [listed(path, tree[path]) for path in files]

    def on_paths(self, kind: str, name: str, revision: str) -> Any:
        tree = self._tree(kind, name, revision)
        asked = parse_qs(self.body.decode()).get("paths") or []
        if self.headers.get("Content-Type", "").startswith("application/json"):
            asked = json.loads(self.body)["paths"]
        folders = {str(p).rsplit("/", 1)[0] for p in tree if "/" in p}
        rows = [
            {"type": "directory", "path": p, "oid": "0" * 40, "size": 0}
            for p in asked
            if p in folders
        ]
        return rows + [listed(path, tree[path]) for path in asked if path in tree]

    def on_info(self, kind: str, name: str, revision: str | None) -> Any:
        repo = self._repo(kind, name)
        tree = self._tree(kind, name, revision or "main")
        sha = next(oid for oid, files in repo.commits[::-1] if files == tree)
        siblings = [{"rfilename": path} for path in tree]
        about = {"_id": "0" * 24, "id": name, "sha": sha, "private": repo.private, "tags": []}
        return about | {"gated": False, "disabled": False, "siblings": siblings}

    def on_resolve(self, kind: str, name: str, revision: str, path: str) -> Any:
        repo, tree = self._repo(kind, name), self._tree(kind, name, revision)
        if path not in tree:
            raise Answered(404, {"error": "no entry"}, {"X-Error-Code": "EntryNotFound"})
        entry = tree[path]
        content = self.server.content(entry)
        etag = entry[0] if isinstance(entry, tuple) else git_sha1(entry)
        commit = repo.head if revision == "main" else repo.tags.get(revision, revision)
        headers = {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": commit,
            "Content-Length": str(len(content)),
        }
        raise Answered(200, content, headers)


def listed(path: str, entry: Any) -> dict[str, Any]:
    """A file in the listing of a tree."""
    if isinstance(entry, bytes):
        return {"type": "file", "path": path, "size": len(entry), "oid": git_sha1(entry)}
    oid, size = entry
    lfs = {"oid": oid, "size": size, "pointerSize": 130}
    return {"type": "file", "path": path, "size": size, "oid": git_sha1(oid.encode()), "lfs": lfs}
