"""The markdown behind an answer that was copied as a piece of a web page."""

import re
from html.parser import HTMLParser

_WRAPPED = re.compile(r"\s*<(div|p|ul|ol|pre|h[1-6]|table|span)\b[^>]*>.*</\1>\s*", re.DOTALL)
_BLOCKS = {"p", "div", "ul", "ol", "table", "blockquote", "section", "article", "thead", "tbody"}
_DROPPED = {"button", "script", "style", "svg"}
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*"}
_LANGUAGE = re.compile(r"language-([\w+#-]+)")


def is_page_text(text: str) -> bool:
    """Whether the whole text is one or more HTML elements, as a scraper leaves it."""
    return _WRAPPED.fullmatch(text) is not None


def to_markdown(page: str) -> str:
    """Markdown of a scraped answer; the text of `<pre>` and `<code>` is kept byte for byte.

    Buttons and headers of code boxes ("python", "Copy code") go, entities become characters, tags
    without a meaning in markdown leave their text.
    """
    writer = _Writer()
    writer.feed(page)
    writer.close()
    return writer.text()


class _Writer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._code: list[str] = []  # protected from the tidying of white space at the end
        self._lists: list[int] = []  # number of the next item, 0 for bullets
        self._dropped = 0
        self._pre = 0
        self._in_code = False
        self._language = ""
        self._links: list[str] = []

    def text(self) -> str:
        """All that was written, without runs of blank lines, the code put back in its places."""
        joined = re.sub(r"\n(?:[ \t]*\n)+", "\n\n", "".join(self._pieces)).strip()
        return re.sub(r"\x00(\d+)\x00", lambda found: self._code[int(found[1])], joined)

    def close(self) -> None:
        """End the page; code that the page never closed is kept all the same."""
        super().close()
        if self._pre:
            self._pre = 1
            self._end_in_pre("pre")
        elif self._in_code:
            self._write_code("`", "`")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self._dropped += 1
        elif self._pre:
            self._start_in_pre(tag, dict(attrs))
        elif tag in {"ul", "ol"}:
            self._lists.append(1 if tag == "ol" else 0)
            self._write("" if len(self._lists) > 1 else "\n\n")
        else:
            self._start(tag, dict(attrs))

    def _start(self, tag: str, attrs: dict[str, str | None]) -> None:
        if tag == "pre":
            self._pre, self._language = 1, ""
            self._code.append("")
        elif tag == "code":
            self._in_code = True
            self._code.append("")
        elif tag == "li":
            self._write(self._bullet())
        elif tag == "a":
            self._links.append(attrs.get("href") or "")
            self._write("[")
        else:
            heading = re.fullmatch(r"h([1-6])", tag)
            opening = "\n\n" + "#" * int(heading[1]) + " " if heading else _opening(tag)
            # The first paragraph of a list item stands in the item's line.
            begins_item = bool(self._lists) and self._pieces[-1].endswith((". ", "* "))
            self._write("" if tag == "p" and begins_item else opening)

    def _start_in_pre(self, tag: str, attrs: dict[str, str | None]) -> None:
        self._pre += tag == "pre"
        if tag == "code" and not self._in_code:
            # A code box's header stands before its <code>: it is not code.
            self._in_code = True
            self._code[-1] = ""
            found = _LANGUAGE.search(attrs.get("class") or "")
            self._language = found[1] if found else ""

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED:
            self._dropped = max(0, self._dropped - 1)
        elif self._pre:
            self._end_in_pre(tag)
        elif tag == "code" and self._in_code:
            self._in_code = False
            self._write_code("`", "`")
        elif tag in {"ul", "ol"} and self._lists:
            self._lists.pop()
            self._write("" if self._lists else "\n\n")
        elif tag == "a" and self._links:
            self._write(f"]({self._links.pop()})")
        elif not (tag == "p" and self._lists):
            self._write("\n\n" if re.fullmatch(r"h[1-6]", tag) else _closing(tag))

    def _end_in_pre(self, tag: str) -> None:
        if tag == "code":
            self._in_code = False
        if tag == "pre":
            self._pre -= 1
        if tag == "pre" and not self._pre:
            ending = "" if self._code[-1].endswith("\n") else "\n"
            self._write("\n\n")
            self._write_code(f"```{self._language}\n", f"{ending}```")
            self._write("\n\n")

    def handle_data(self, data: str) -> None:
        if self._dropped:
            return
        if self._in_code or self._pre:
            # What follows the inner <code> in a <pre> is the page's again.
            if self._in_code or not self._code[-1]:
                self._code[-1] += data
            return
        self._write(re.sub(r"\s+", " ", data.replace("\x00", "")))

    def _bullet(self) -> str:
        depth = max(len(self._lists) - 1, 0)
        if not self._lists or not self._lists[-1]:
            return f"\n{'  ' * depth}* "
        self._lists[-1] += 1
        return f"\n{'  ' * depth}{self._lists[-1] - 1}. "

    def _write(self, piece: str) -> None:
        self._pieces.append(piece)

    def _write_code(self, opening: str, closing: str) -> None:
        self._code[-1] = opening + self._code[-1] + closing
        self._write(f"\x00{len(self._code) - 1}\x00")


def _opening(tag: str) -> str:
    if tag in _BLOCKS:
        return "\n\n"
    return _MARKS.get(tag) or {"br": "\n", "hr": "\n\n---\n\n", "tr": "\n|", "td": " "}.get(tag, "")


def _closing(tag: str) -> str:
    if tag in _BLOCKS:
        return "\n\n"
    return _MARKS.get(tag) or {"td": " |", "th": " |"}.get(tag, "")
