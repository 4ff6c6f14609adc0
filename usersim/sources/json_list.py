"""The values of one JSON list, one after the other; a broken one costs no more than itself."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from usersim.sources.draft import BadRecord, Raw

_BLOCK = 4 << 20  # bytes read at once
_MAX_TAIL_CHARS = 1_000_000  # how much of an unreadable piece its rejection keeps
_MAX_SEARCH_CHARS = 64_000_000  # parsed in vain before the search for a next record is given up
_NEAR_END = 16  # an error so near to the end may be a word or number that goes on behind it
_END = re.compile(r"\s*\]?\s*\Z")
_scan = json.JSONDecoder().raw_decode


def list_records(handle: IO[bytes], stem: str) -> Iterator[Raw]:
    """The values of one JSON list, however long: only one block and one record are in memory.

    Where the text stops being JSON, reading goes on at the next object that begins with a key that
    records begin with, and has the keys that all have; what is between is one bad record.
    """
    window, sound, number = _Window(handle), _Sound(), 0
    while True:
        try:
            value = window.value()
        except (ValueError, RecursionError):
            if window.is_through():
                return
            broken, goes_on = window.skip_broken(sound)
            yield _broken_record(f"{stem}-{number}", broken, goes_on)
            if not goes_on:
                return
        else:
            sound.learn(value)
            yield Raw(f"{stem}-{number}", value)
        number += 1


class _Sound:
    """How the sound records look: their first keys, and the keys that none is without."""

    def __init__(self) -> None:
        self._first = set[str]()
        self._common: set[str] | None = None

    def learn(self, value: Any) -> None:
        """Take note of a record that could be read."""
        if isinstance(value, dict) and value:
            self._first.add(next(iter(value)))
            self._common = set(value) & (value.keys() if self._common is None else self._common)

    def beginning(self, broken: str) -> re.Pattern[str]:
        """What a record begins with; where none was sound yet, the broken one's own first key."""
        keys = [json.dumps(key, ensure_ascii=False) for key in sorted(self._first)]
        own = re.match(r'\{\s*("(?:[^"\\]|\\.)*")', broken)
        keys = keys or ([own[1]] if own else [])
        return re.compile(rf"\{{\s*(?:{'|'.join(map(re.escape, keys)) or '(?!)'})\s*:")

    def is_like(self, value: Any) -> bool:
        """Whether a value has what all sound records have."""
        return isinstance(value, dict) and (self._common or set()) <= value.keys()


class _Window:
    """What was read of a list and not yet used; `position` is the first character of that."""

    def __init__(self, handle: IO[bytes]) -> None:
        # Bytes that are not UTF-8 become lone surrogates, which making a Draft will refuse.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._handle, self._block = handle, _BLOCK
        self.text = self._decode(handle.read(_BLOCK)).lstrip().removeprefix("[")
        self.position = 0

    def value(self) -> Any:
        """The next value. Raises ValueError or RecursionError where none can be read."""
        while True:
            while self.text[self.position : self.position + 1] in tuple(" \t\r\n,"):
                self.position += 1
            try:
                value, self.position = _scan(self.text, self.position)
            except ValueError as error:
                if not (self._may_go_on(error) and self._more()):
                    raise
                continue
            self._block = _BLOCK
            return value

    def is_through(self) -> bool:
        """Whether nothing follows but the end of the list, or not even that."""
        while _END.match(self.text, self.position):
            if not self._more():
                return True
        return False

    def skip_broken(self, sound: _Sound) -> tuple[str, bool]:
        """Go to the next record; the text before it, and whether there is one."""
        begins = sound.beginning(self.text[self.position : self.position + 1000])
        ahead, wasted = 1, 0  # ahead is counted from `position`, which `_more` moves
        while wasted < _MAX_SEARCH_CHARS:
            found = begins.search(self.text, self.position + ahead)
            if found is None:
                ahead = max(ahead, len(self.text) - self.position - 1000)  # it may have begun there
                if not self._more():
                    break
                continue
            ahead = found.start() - self.position
            try:
                value, end = _scan(self.text, found.start())
            except (ValueError, RecursionError) as error:
                if self._may_go_on(error) and self._more():
                    continue
                wasted += len(self.text) - found.start() if self._may_go_on(error) else 1000
                wasted += max(getattr(error, "pos", len(self.text)) - found.start(), 0)
            else:
                if sound.is_like(value):
                    broken = self.text[self.position : found.start()]
                    self.position = found.start()
                    return broken, True
                wasted += end - found.start()
            ahead += 1
        return self.text[self.position :], False

    def _may_go_on(self, error: Exception) -> bool:
        """Whether a value only ends where the text that was read does."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        is_near = error.pos >= len(self.text) - _NEAR_END
        return is_near or error.msg.startswith("Unterminated")

    def _more(self) -> bool:
        """Read a further block, if there is one."""
        data = self._handle.read(self._block)
        self.text, self.position = self.text[self.position :] + self._decode(data), 0
        self._block *= 2  # a record longer than a block is not scanned again for every block
        return bool(data)


def _broken_record(name: str, text: str, goes_on: bool) -> Raw:
    """What is no JSON: cut off where it ends, or broken in its middle."""
    text = text.strip(" \t\r\n,")
    read = len(text)
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        # What stands at the error is nothing, or the beginning of true, false, null or a number.
        begun = re.fullmatch(r"[a-z]{0,4}|-", text[error.pos :])
        cut = begun or error.msg.startswith("Unterminated")
        reason, detail, read = "truncated_json" if cut else "not_json", str(error), error.pos
    except (ValueError, RecursionError) as error:
        reason, detail, read = "not_json", str(error), 0
    else:
        reason, detail = "truncated_json", "the list is not closed"
    if not goes_on and reason == "not_json":
        detail += f"; no other record was found behind it ({len(text)} characters)"
    # Only what was read is this record for sure: behind the error the next one may have begun.
    own_id = re.search(r'"id"\s*:\s*"([^"]+)"', text[: min(read, 1000)])
    return Raw(own_id[1] if own_id else name, text[:_MAX_TAIL_CHARS], BadRecord(reason, detail))
