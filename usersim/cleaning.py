"""What a web page and a browser left in people's texts, taken out; what people wrote stays.

Scraped user turns carry the page's own words (buttons, counters, escapes) and those of browser
extensions, glued to what was typed. A simulator would learn to say them. Each rule here was seen in
real data; none touches curly quotes, accents, emoji, or what a person typed in fenced code: only
the page's own escapes and code headers go there too.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from usersim.conversation import Message, Rejection
from usersim.page_text import is_page_text, to_markdown
from usersim.settings import Settings
from usersim.sources import Draft

_STAGE = "clean"
_FENCED = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)
# How Windows, old Macs, slides (\v) and PDFs (\f) end a line.
_LINE_BREAK = re.compile(r"\r\n?|[\v\f]")
# Control characters but tab and newline; zero-width space, word joiner, byte order mark. The
# zero-width joiner and non-joiner stay: emoji and Persian need them.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]")

# Turning the page into markdown escaped every _ and * that a person typed, in code as well: of
# 62,891 underscores outside links not one is bare. Of 100 turns with escapes in fenced code none
# has a bare one anywhere: where one stands, the page escaped nothing and code is as it was typed.
_ESCAPED = re.compile(r"\\([_*])")
_BARE = re.compile(r"(?<!\\)[_*]")
_CODE_HEADER = re.compile(
    r"^(?:[a-z+#]{1,12}\n+)?[a-z+#]{0,12}Copy code(?:\n|(?=\S))", re.MULTILINE
)
_TAIL = re.compile(
    r"""(?:
    \s*(?:지금\ 번역하기|Translate\ now)                           # translation extension
    | (?<=\n) Answer\ in\ \w+\.
    | (?:Copy)+\ HTMLRead\ Aloud(?:⏹️\ Stop)?\d+\ chars?\ \|\ \d+\ words?
    | (?:GoodBad)?\ *\d+\ words\ \d+\ char\ Copy\ Text\ Copy\ HTML.*   # an editor's toolbar
    | (?<=[\s.?!]) Please\ write\ in\ [^\n.]{1,80}\ language\.   # a prompt manager's language menu
    | Share\ Prompt
    | Save\ &\ SubmitCancel
    | Copy\ to\ Clipboard
    # Counter of edited versions, "2 / 2". Of 152 all but 3 show the last version, and of those two
    # are glued to a full stop; "3 / 4" in a line of its own may be a fraction that a person typed.
    | (?<=[\n.]) [ ]*(?P<shown>\d{1,3})\ /\ (?P=shown)
    | (?<=\.) \d{1,3}\ /\ \d{1,3}
    )\s*\Z""",
    re.VERBOSE | re.DOTALL,
)
_TAIL_CHARS = 600  # the longest of them is a toolbar of 450 characters
_HEAD_COUNTER = re.compile(r"\A\s*\d{1,3} / \d{1,3}\s*\n")  # of regenerated answers
_EMPTY_ANSWER = re.compile(r"\A\s*EmptyMarkdownContent\s*\Z")
_NOTICE = re.compile(r"\A\W*This (?:chat )?conversation is shared from\b")

# Texts that a prompt marketplace or a search extension composed: no person typed them.
_TEMPLATES = {
    "prompt_template": re.compile(
        r"please ignore all previous (?:language )?instructions"
        r"|ignore all previous instructions before this one"
        r"|\[TARGETLANGUAGE\]|\[PROMPT\]",
        re.IGNORECASE,
    ),
    "search_template": re.compile(r"\AWeb search results:\s"),
}


class CleaningSettings(Settings):
    """What cleaning refuses."""

    max_turn_chars: int = 100_000
    """A longer turn is pasted data, not talk; the conversation is rejected as `too_long`."""


class Cleaner:
    """Cleans records one by one and counts what it mended, by kind, in `mended`."""

    def __init__(self, settings: CleaningSettings | None = None) -> None:
        self.settings = settings or CleaningSettings()
        self.mended: Counter[str] = Counter()

    def clean(self, draft: Draft) -> Draft | Rejection:
        """The record with clean texts, or its rejection.

        Where a turn is empty or its speaker should not have it, the record ends before it and is
        `cut`. Reasons: `too_long`, `prompt_template`, `search_template`, `no_opening` (the first
        turn is not a user's, or empty), `no_answer` (not one whole round is left), or that of a
        system message out of place, `misplaced_system`.
        """
        longest = max(len(message.content) for message in draft.messages)
        if longest > self.settings.max_turn_chars:
            limit = self.settings.max_turn_chars
            return draft.reject(
                _STAGE, "too_long", f"a turn of {longest} characters; at most {limit}"
            )
        messages = tuple(self._message(m, draft.scraped) for m in draft.messages)
        messages = self._without_notice(messages)
        reason = _template(messages) if draft.scraped else ""
        if reason:
            return draft.reject(_STAGE, reason)
        return self._until_break(draft, messages)

    def _message(self, message: Message, scraped: bool) -> Message:
        text = message.content
        if scraped:
            for kind, mend in _MENDS[message.role]:
                text = self._counted(kind, mend, text)
        text = self._counted("invisible", _visible, text).strip()
        return Message(message.role, text)

    def _counted(self, kind: str, mend: Callable[[str], str], text: str) -> str:
        mended = mend(text)
        self.mended[kind] += mended != text
        return mended

    def _without_notice(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Without a system message that only says where the conversation was shared, or nothing."""
        first = messages[0]
        if first.role != "system" or (first.content and not _NOTICE.match(first.content)):
            return messages
        self.mended["sharing_notice"] += 1
        return messages[1:]

    def _until_break(self, draft: Draft, messages: tuple[Message, ...]) -> Draft | Rejection:
        start = 1 if messages and messages[0].role == "system" else 0
        turns = messages[start:]
        length, kind = _sound_length(turns)
        if kind == "system_inside":
            detail = "a system message stands behind the first turn"
            return draft.reject(_STAGE, "misplaced_system", detail)
        if length == 0:
            detail = "the first turn is not a user's, or says nothing"
            return draft.reject(_STAGE, "no_opening", detail)
        if length == 1:
            return draft.reject(_STAGE, "no_answer", "the first turn has no answer")
        if length == len(turns):
            return replace(draft, messages=messages)
        self.mended[kind] += 1
        return replace(draft, messages=messages[: start + length], stop_reason="cut")


def _sound_length(turns: tuple[Message, ...]) -> tuple[int, str]:
    """How many turns from the start alternate and say something, and what ends them."""
    if any(turn.role == "system" for turn in turns):
        return 0, "system_inside"
    for position, turn in enumerate(turns):
        if not turn.content:
            return position, "cut_at_empty_turn"
        if turn.role != ("user", "assistant")[position % 2]:
            return position, "cut_at_repeated_role"
    return len(turns), ""


def _template(messages: tuple[Message, ...]) -> str:
    """The reason when any user turn was composed by a tool, else nothing."""
    for message in messages:
        if message.role == "user":
            for reason, pattern in _TEMPLATES.items():
                if pattern.search(message.content):
                    return reason
    return ""


def outside_code(text: str) -> str:
    """A text without its fenced code."""
    return "".join(_FENCED.split(text)[::2])


def _change_prose(change: Callable[[str], str], text: str) -> str:
    """A text changed everywhere but in its fenced code."""
    pieces = _FENCED.split(text)  # code stands at the odd places
    pieces[::2] = map(change, pieces[::2])
    return "".join(pieces)


def _visible(text: str) -> str:
    return _change_prose(lambda part: _INVISIBLE.sub("", _LINE_BREAK.sub("\n", part)), text)


def _unescaped(text: str) -> str:
    if _BARE.search(text):
        return _change_prose(lambda part: _ESCAPED.sub(r"\1", part), text)
    return _ESCAPED.sub(r"\1", text)


def _without_tails(text: str) -> str:
    """Without what extensions and buttons appended, one after the other."""
    while True:
        start = max(len(text) - _TAIL_CHARS, 0)
        found = _TAIL.search(text, start)
        if not found:
            return text
        text = text[: found.start()].rstrip()


def _without_code_headers(text: str) -> str:
    return _CODE_HEADER.sub("", text)


def _without_counter(text: str) -> str:
    return _EMPTY_ANSWER.sub("", _HEAD_COUNTER.sub("", text))


def _from_page(text: str) -> str:
    return to_markdown(text) if is_page_text(text) else text


_MENDS: dict[str, list[tuple[str, Callable[[str], str]]]] = {
    "user": [
        ("escapes", _unescaped),
        ("code_headers", _without_code_headers),
        ("appended", _without_tails),
    ],
    "assistant": [("page_text", _from_page), ("counters", _without_counter)],
    "system": [],
}
