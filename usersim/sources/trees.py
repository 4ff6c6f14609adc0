"""OpenAssistant's trees of replies, one path of each.

A person's message has several answers, each answer several replies by people. A path from the root
takes the best-ranked reply at every step (rank 0 is the best), so no person's turn is in the corpus
twice. Of replies with the same rank, or none, the one with the longest continuation is taken, then
the smaller id. Messages beside the path are rejected by name, none vanishes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from usersim.conversation import Message, Rejection, Role
from usersim.sources.draft import BadRecord, Draft, Raw, printable
from usersim.sources.turns import role_of, said

_ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}


@dataclass(slots=True)
class _Node:
    id: str
    parent: str | None
    tree: str
    message: Message
    rank: float
    person: str | None
    raw: Raw
    source: str
    depth: int = 0
    """Messages on the longest path that begins here."""
    children: list["_Node"] = field(default_factory=list)

    @property
    def worth(self) -> tuple[float, int, str]:
        """The smallest is the best of its siblings."""
        return self.rank, -self.depth, self.id


def is_tree(record: Mapping[str, Any]) -> bool:
    """Whether a record is one message of a tree, or a whole tree."""
    prompt = record.get("prompt")
    if isinstance(prompt, Mapping):
        return "replies" in prompt or "text" in prompt
    return "message_id" in record and ("parent_id" in record or "message_tree_id" in record)


class Forest:
    """Messages as they are read, put together at the end of the source."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def add(self, raw: Raw, source: str) -> Iterator[Rejection]:
        """Take the messages of a record; yields the rejections of those that cannot be used."""
        if isinstance(raw.value.get("prompt"), Mapping):
            rows: Iterable[Raw] = _flattened(raw)
        else:
            rows = [raw]
        for row in rows:
            try:
                self._enter(_node(row, source))
            except BadRecord as bad:
                yield row.reject(_name(row), bad.reason, bad.detail)

    def _enter(self, node: _Node) -> None:
        if node.id in self._nodes:
            raise BadRecord("duplicate_id", "another message has this id")
        self._nodes[node.id] = node

    def paths(self) -> Iterator[Draft | Rejection]:
        """Of every tree its path, and the rejections of all messages beside it."""
        roots = self._linked()
        lost = set(self._nodes)
        for root in roots:
            below = list(_below(root))
            lost.difference_update(node.id for node in below)
            yield from _path(root, below)
        for node in (self._nodes[name] for name in self._nodes if name in lost):
            yield node.raw.reject(node.id, "no_parent", f"no usable message {node.parent}")

    def _linked(self) -> list[_Node]:
        for node in self._nodes.values():
            parent = self._nodes.get(node.parent or "")
            if parent is not None:
                parent.children.append(node)
        return [node for node in self._nodes.values() if node.parent is None]


def _path(root: _Node, below: list[_Node]) -> Iterator[Draft | Rejection]:
    for node in reversed(below):  # children before their parents
        node.depth = 1 + max((child.depth for child in node.children), default=0)
    path = [root]
    while path[-1].children:
        path.append(min(path[-1].children, key=lambda node: node.worth))
    people = [node.person for node in path if node.message.role == "user" and node.person]
    yield Draft(
        id=root.tree,
        messages=tuple(node.message for node in path),
        source=root.source,
        stop_reason="cut",  # a tree stops growing; that is no one's decision to leave
        persons=tuple(dict.fromkeys(people)),
        num_records=len(path),
    )
    taken = {node.id for node in path}
    for node in below:
        if node.id not in taken:
            detail = f"a better ranked path of tree {root.tree} was taken"
            yield node.raw.reject(node.id, "other_branch", detail)


def _below(root: _Node) -> Iterator[_Node]:
    """A message and all that follows from it, parents before their children."""
    level = [root]
    while level:
        yield from level
        level = [child for node in level for child in node.children]


def _flattened(raw: Raw) -> Iterator[Raw]:
    """Messages of a whole tree as rows of their own."""
    tree = raw.value.get("message_tree_id") or raw.name
    waiting: list[tuple[Any, str | None]] = [(raw.value["prompt"], None)]
    number = 0
    while waiting:
        node, parent = waiting.pop()
        name = f"{raw.name}.{number}"
        number += 1
        if not isinstance(node, Mapping):
            yield Raw(name, node, BadRecord("malformed_message", f"a reply is {node!r:.80}"))
            continue
        replies = node.get("replies")
        row = {key: value for key, value in node.items() if key != "replies"}
        row |= {"message_id": node.get("message_id") or name, "parent_id": parent}
        yield Raw(name, row | {"message_tree_id": tree})
        for reply in reversed(replies) if isinstance(replies, list) else ():
            waiting.append((reply, row["message_id"]))


def _node(raw: Raw, source: str) -> _Node:
    if raw.bad:
        raise raw.bad
    row = raw.value
    for flag in ("deleted", "synthetic"):
        if row.get(flag):
            raise BadRecord(f"{flag}_message", "and what follows from it has no parent")
    try:
        rank = row.get("rank")
        return _Node(
            id=printable(str(row["message_id"])),
            parent=None if row.get("parent_id") is None else printable(str(row["parent_id"])),
            tree=printable(str(row.get("message_tree_id") or row["message_id"])),
            message=said(role_of(row["role"], _ROLES), row["text"]),
            rank=math.inf if rank is None else float(rank),
            person=None if row.get("user_id") is None else printable(str(row["user_id"])),
            raw=raw,
            source=source,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadRecord("malformed_message", f"{type(error).__name__}: {error}") from error


def _name(raw: Raw) -> str:
    return str(raw.value["message_id"]) if isinstance(raw.value, Mapping) else raw.name
