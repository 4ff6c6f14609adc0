"""Damage to a text's characters: found by ftfy's rules, mended where the bytes allow it.

Only what is broken is touched. ftfy would also straighten quotes, unfold ligatures and replace
HTML entities; people's typing is the product here, so all of that is switched off.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

# Beyond ASCII and beyond what people and assistants really use and no wrong decoding begins with:
# typographers' signs, scripts without spaces, emoji. A text without such needs no closer look.
UNUSUAL = re.compile(
    r"[^\x00-\x7f\u2010-\u2019\u201c\u201d\u2022\u2026\u2192\u2713\u2714\u200d\ufe0f"
    r"\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\U0001f000-\U0001faff]"
)
_HALF = re.compile("[\ud800-\udfff]")
# Characters that were lost for good, C1 controls that no keyboard makes, and half an emoji.
_LOST = re.compile("[\ufffd\x80-\x84\x86-\x9f\ud800-\udfff]")


def damage(text: str) -> str | None:
    """What is wrong with the characters (`mojibake`, `lost characters`), or None."""
    return None if text.isascii() or not UNUSUAL.search(text) else _damage(text)


@lru_cache(maxsize=1024)  # mending and a rule ask of the same text
def _damage(text: str) -> str | None:
    if _LOST.search(text):
        return "lost characters"
    from ftfy.badness import is_bad

    return "mojibake" if is_bad(text) else None


def well_formed(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair becomes U+FFFD, a lost character."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def mended(text: str) -> str:
    """The text with mojibake decoded again; unchanged where there is none or nothing helps."""
    if damage(text) is None:
        return text
    from ftfy import fix_text

    return fix_text(text, config=_only_encoding())


@lru_cache(maxsize=1)
def _only_encoding() -> "TextFixerConfig":
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        restore_byte_a0=True,
        replace_lossy_sequences=True,
        decode_inconsistent_utf8=True,
        fix_c1_controls=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=True,
        remove_control_chars=False,
        normalization=None,
    )
