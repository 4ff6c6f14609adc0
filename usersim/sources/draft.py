"""What reading makes of a record: a Draft, or the reason why it cannot be one."""

import json
from dataclasses import dataclass
from typing import Any

from usersim.conversation import Message, Rejection, StopReason

UNSTATED = "unstated"  # the license of a source that names none
STAGE = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One record as it was read: roles are ours, nothing else is checked or changed yet."""

    id: str
    messages: tuple[Message, ...]
    source: str
    license: str = UNSTATED
    scraped: bool = False
    """Whether it was copied off web pages: chunks to merge, debris of the page to remove."""
    stop_reason: StopReason | None = None
    """Given where the source tells how it ended; None where its last turn has to tell."""
    persons: tuple[str, ...] = ()
    """Who the user is, as the source names them; only for holding out by person."""
    num_records: int = 1
    """How many records of the source it was made of."""

    def reject(self, stage: str, reason: str, detail: str = "") -> Rejection:
        """The rejection of this record, with all of its text."""
        rows = [{"role": m.role, "content": m.content} for m in self.messages]
        record = {"messages": rows, "source": self.source, "license": self.license}
        return Rejection(self.id, stage, reason, detail, json.dumps(record, ensure_ascii=False))


class BadRecord(Exception):
    """A record that cannot become a Draft; `reason` is the word for counting."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Raw:
    """One record of a file before its parser saw it: a value, or why there is none."""

    name: str
    value: Any
    bad: BadRecord | None = None

    def reject(self, name: str, reason: str, detail: str = "") -> Rejection:
        """The rejection of this record under a name, with all of its text, fit to be written."""
        text = self.value
        if not isinstance(text, str):
            text = json.dumps(text, default=str, ensure_ascii=False)
        return Rejection(printable(name), STAGE, reason, printable(detail), printable(text))


def printable(text: str) -> str:
    """A text that UTF-8 can hold: lone surrogates become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
