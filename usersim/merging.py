"""Chunks of one conversation, put together again.

A long scraped conversation comes as several records named BASE_k, where k is the position of the
chunk's first turn in the whole. The next chunk repeats the last turn (it then begins with the
assistant) or follows directly.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from usersim.conversation import Message, Rejection
from usersim.sources import Draft

_STAGE = "merge"
_CHUNK_ID = re.compile(r"(.+)_(\d+)")
_IF_NUMBERS = "if _k only counts records, name the columns with ingest.columns: none is joined then"


@dataclass(slots=True)
class Merged:
    """What merging made: whole conversations, and the records that fit nowhere."""

    conversations: list[Draft] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    num_joined: int = 0
    """Records whose turns are in one of the conversations."""


def merge(drafts: Iterable[Draft], lost_ids: Iterable[str] = ()) -> Merged:
    """Conversations from records, in the order of their first record.

    A conversation takes its BASE as id. It is `cut` when a later chunk is missing, does not fit, or
    is among `lost_ids` (records that could not be read). Records that are not scraped, or not named
    BASE_k, stay as they are. Reasons: `no_opening` (the first chunk is missing), `missing_chunk`
    (a gap before it), `chunk_differs` (it contradicts the chunk before), `duplicate_id`.
    """
    merged, bases, seen = Merged(), dict[str, list[tuple[int, Draft]]](), set[str]()
    for draft in drafts:
        base, offset = split_id(draft)
        bases.setdefault(base, []).append((offset, draft))
    lost = _furthest(lost_ids)
    for base, chunks in bases.items():
        chunks.sort(
            key=lambda chunk: chunk[0]
        )  # stable: of equal offsets the first read comes first
        if _is_numbering(chunks, has_lost=base in lost):
            for _, draft in chunks:
                _keep_alone(draft, seen, merged)
        else:
            _join(base, chunks, lost.get(base, -1), merged)
    return merged


def split_id(draft: Draft) -> tuple[str, int]:
    """BASE and k of a scraped record's id; the id itself and 0 of any other."""
    found = _CHUNK_ID.fullmatch(draft.id) if draft.scraped else None
    return (found[1], int(found[2])) if found else (draft.id, 0)


def _furthest(ids: Iterable[str]) -> dict[str, int]:
    """Of every base the largest offset that was lost."""
    found: dict[str, int] = {}
    for match in filter(None, map(_CHUNK_ID.fullmatch, ids)):
        found[match[1]] = max(found.get(match[1], 0), int(match[2]))
    return found


def _is_numbering(chunks: Sequence[tuple[int, Draft]], has_lost: bool) -> bool:
    """Whether k only counts records: not scraped, or k cannot be the place of the first turn.

    Many corpora name unrelated records NAME_0, NAME_1, ... Three things give them away: a chunk
    overlaps the one before with another text and begins with a user turn; one that follows nothing
    opens where an answer would stand; or all open, and none follows another though no record of
    the name was lost.
    """
    if not chunks[0][1].scraped:
        return True
    for (before, left), (offset, right) in pairwise(chunks):
        shared = left.messages[offset - before :][: len(right.messages)]
        opens = right.messages[0].role == "user"
        if opens and shared and shared != right.messages[: len(shared)]:
            return True
    astray = _astray(chunks)
    num_system = int(chunks[0][1].messages[0].role == "system")
    if any(_opens_on_an_answer(offset - num_system, draft) for offset, draft in astray):
        return True
    all_open = all(draft.messages[0].role != "assistant" for _, draft in chunks)
    apart = [chunk for chunk in astray if chunk is not chunks[0]]
    return all_open and not has_lost and 0 < len(apart) == len(chunks) - 1


def _astray(chunks: Sequence[tuple[int, Draft]]) -> list[tuple[int, Draft]]:
    """The chunks that follow no other: a first one that is not at 0, and those behind a gap."""
    ends = [0, *(offset + len(draft.messages) for offset, draft in chunks)]
    return [chunk for end, chunk in zip(ends, chunks, strict=False) if chunk[0] > end]


def _opens_on_an_answer(position: int, draft: Draft) -> bool:
    """Whether a record opens a conversation at a place where one cannot open."""
    role = draft.messages[0].role
    return role == "system" or (role == "user" and position % 2 == 1)


def _keep_alone(draft: Draft, seen: set[str], merged: Merged) -> None:
    if draft.id in seen:
        merged.rejected.append(draft.reject(_STAGE, "duplicate_id", "another record has this id"))
        return
    seen.add(draft.id)
    merged.conversations.append(_ended(draft, is_cut=False))
    merged.num_joined += 1


def _join(base: str, chunks: list[tuple[int, Draft]], lost_offset: int, merged: Merged) -> None:
    if chunks[0][0] != 0:
        detail = f"there is no {base}_0, with which it would begin; {_IF_NUMBERS}"
        merged.rejected += [draft.reject(_STAGE, "no_opening", detail) for _, draft in chunks]
        return
    messages = chunks[0][1].messages
    num_joined, reason = 1, ""
    for offset, draft in chunks[1:]:
        reason = _misfit(messages, offset, draft)
        if reason:
            break
        messages += draft.messages[len(messages) - offset :]
        num_joined += 1
    left_over = [draft for _, draft in chunks[num_joined:]]
    detail = f"{base} ends, as far as records follow each other, after turn {len(messages)}; "
    merged.rejected += [draft.reject(_STAGE, reason, detail + _IF_NUMBERS) for draft in left_over]
    merged.num_joined += num_joined
    # A lost record at or behind the last turn (which it would repeat) is a missing continuation.
    is_cut = bool(left_over) or lost_offset >= max(len(messages) - 1, 1)
    whole = replace(chunks[0][1], id=base, messages=messages)
    merged.conversations.append(_ended(whole, is_cut))


def _misfit(messages: Sequence[Message], offset: int, chunk: Draft) -> str:
    """Why a chunk does not continue the messages before it; empty when it does."""
    if offset > len(messages):
        return "missing_chunk"
    shared = messages[offset:][: len(chunk.messages)]
    return "" if tuple(shared) == chunk.messages[: len(shared)] else "chunk_differs"


def _ended(draft: Draft, is_cut: bool) -> Draft:
    """With its stop reason: people leave after an answer; a turn without one is a broken record.

    What the source tells of the end counts, unless a chunk of it is missing.
    """
    if draft.stop_reason and not is_cut:
        return draft
    answered = draft.messages[-1].role == "assistant"
    return replace(draft, stop_reason="cut" if is_cut or not answered else "user_ended")
