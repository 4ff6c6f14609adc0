"""Personal data in a text: what identifies or reaches a person, by form alone, and masks for it.

E-mail addresses, telephone numbers, payment cards, bank accounts (IBAN), US social security
numbers, public IPv4 addresses, and secrets (keys, tokens). Each form is checked beyond its shape
where there is a check (Luhn, ISO 7064, address ranges), because people who talk to a chatbot paste
numbers of every kind. What cannot belong to anybody is left alone: reserved domains (RFC 2606),
fictional telephone numbers (555-01xx), private networks, published test cards. Names and street
addresses need a model: see `usersim.presidio_finder`.
"""

import ipaddress
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """One place in a text that holds personal data."""

    kind: str
    start: int
    end: int


# What source corpora put where a person's data stood: LMSYS (NAME_1), presidio (WildChat), and
# redactions of other makers. They are nobody's data; a simulator that says them shows its source.
PLACEHOLDER = re.compile(
    r"\b(?:NAME|EMAIL|PHONE|ADDRESS|PERSON|LOCATION)_\d+\b"
    r"|<PRESIDIO_ANONYMIZED_[A-Z_]+>"
    r"|<(?:EMAIL_ADDRESS|PERSON|PHONE_NUMBER|LOCATION|IP_ADDRESS|CREDIT_CARD|US_SSN|IBAN_CODE)>"
    r"|\[(?:EMAIL|PHONE|NAME|ADDRESS|CARD|IBAN|IP|SSN|SECRET|REDACTED|REMOVED)(?:[ _][A-Z0-9]+)?\]"
)

_PLACEHOLDER_SIGNS = (
    "NAME", "EMAIL", "PHONE", "ADDRESS", "PERSON", "LOCATION", "REDACTED", "REMOVED", "[CARD",
    "[IBAN", "[IP", "[SSN", "[SECRET", "<CREDIT", "<US_SSN", "<IBAN", "<IP_", "<PRESIDIO",
)  # fmt: skip

_EMAIL = re.compile(
    r"(?<![\w.+/-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"
)
_NOBODYS_DOMAIN = re.compile(
    r"(?:^|[@.])(?:example\.(?:com|org|net|edu)|(?:your|my)?(?:domain|company|email|mail|site|website"
    r"|server)\.(?:com|org|net)|[\w-]+\.(?:example|test|invalid|localhost|local))$",
    re.IGNORECASE,
)
_ROLE_ADDRESS = re.compile(
    r"^(?:info|support|sales|contact|admin|help|office|noreply|no-reply|webmaster|postmaster|abuse"
    r"|hello|team|press|jobs|careers|git|you|your[._-]?\w*|user\w*|username|name|email)@",
    re.IGNORECASE,
)

# With separators or a plus sign only: ten bare digits are an order, a timestamp or a product.
_PHONE = re.compile(
    r"(?<![\w.+/=-])(?:"
    r"\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}"
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4}"
    r")(?![\w/=]|[.-]\d)"
)
# Fictional numbers, and North America's free ones, which are companies'.
_FICTIONAL = re.compile(
    r"^\D{0,2}1?\D{0,2}8(?:00|88|77|66|55|44|33)\D"
    r"|(?:^|\D)555\D{0,2}01\d\d$|555\D{0,2}\d{3}\D{0,2}\d{4}$"
)
_CARD = re.compile(
    r"(?<![\w.-])(?:(?:\d{4}[ -]?){3}\d{1,7}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})(?![\w-]|\.\d)"
)
_ISSUER = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6011|65")
_TEST_CARDS = frozenset(
    {
        "4111111111111111",
        "4242424242424242",
        "5555555555554444",
        "378282246310005",
        "4012888888881881",
    }
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_IP = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w/-]|\.\d)")
_EVERYBODYS_IP = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "1.2.3.4"})
_SSN = re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")
_SECRET = re.compile(
    r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}"
    r"|\bxox[abprs]-\d[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{35}|\bhf_[A-Za-z]{30,}"
    r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
)
_SECRET_SIGNS = (
    "sk-", "AKIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox", "AIza", "hf_", "PRIVATE KEY",
    "eyJ",
)  # fmt: skip
# Every number above holds such a run; only around one need the five forms be tried.
_RUN = re.compile(r"\d[\d .()-]{5,}\d")
_BEFORE, _AFTER = 12, 32  # characters around it that a form may reach
FORMS = (_EMAIL, _SECRET, _RUN)
"""A text in which none of these is found holds no personal data."""


def has_placeholder(text: str) -> bool:
    """Whether somebody's data stood here before a source corpus was published."""
    return any(s in text for s in _PLACEHOLDER_SIGNS) and PLACEHOLDER.search(text) is not None


def find(text: str) -> list[Found]:
    """The places that hold personal data, in order, none overlapping another."""
    found: list[Found] = []
    if "@" in text:
        found += _matches(text, "email", _EMAIL, _is_somebodys)
    if any(sign in text for sign in _SECRET_SIGNS):
        found += _matches(text, "secret", _SECRET)
    for run in _RUN.finditer(text):
        found += _numbers(text, max(0, run.start() - _BEFORE), run.end() + _AFTER)
    return list(apart(sorted(found, key=lambda f: (f.start, -f.end)))) if found else []


def _numbers(text: str, start: int, end: int) -> Iterator[Found]:
    for kind, form, check in _NUMBERS:
        yield from _matches(text, kind, form, check, (start, end))


def mask(text: str, found: list[Found]) -> str:
    """The text with `[KIND]` in each place, which PLACEHOLDER knows again."""
    pieces, end = [], 0
    for place in found:
        pieces += [text[end : place.start], f"[{place.kind.upper()}]"]
        end = place.end
    return "".join([*pieces, text[end:]])


def _matches(
    text: str,
    kind: str,
    form: re.Pattern[str],
    check: Callable[[str], bool] = bool,
    where: tuple[int, int] = (0, sys.maxsize),
) -> Iterator[Found]:
    for match in form.finditer(text, *where):
        if check(match[0]):
            yield Found(kind, match.start(), match.end())


def apart(found: list[Found]) -> Iterator[Found]:
    """Of sorted places those that overlap none before them."""
    end = -1
    for place in found:
        if place.start >= end:
            yield place
            end = place.end


def _is_somebodys(address: str) -> bool:
    return not _NOBODYS_DOMAIN.search(address) and not _ROLE_ADDRESS.match(address)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _is_phone(text: str) -> bool:
    return 8 <= len(_digits(text)) <= 15 and not _FICTIONAL.search(text)


def _is_card(text: str) -> bool:
    number = _digits(text)
    known = 13 <= len(number) <= 19 and _ISSUER.match(number) and number not in _TEST_CARDS
    return bool(known) and luhn(number)


def luhn(number: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the check digits are right (ISO 13616; ISO 7064, MOD 97-10)."""
    compact = text.replace(" ", "")
    turned = compact[4:] + compact[:4]
    number = "".join(str(int(c, 36)) for c in turned)
    return 15 <= len(compact) <= 34 and int(number) % 97 == 1


def _is_public(text: str) -> bool:
    try:
        known = text in _EVERYBODYS_IP or text.endswith(
            (".0", ".255")
        )  # networks, ranges, versions
        return not known and ipaddress.ip_address(text).is_global
    except ValueError:
        return False


_NUMBERS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("card", _CARD, _is_card),
    ("iban", _IBAN, _is_iban),
    ("ssn", _SSN, lambda number: number != "123-45-6789"),
    ("ip", _IP, _is_public),
    ("phone", _PHONE, _is_phone),
)


_CHECKS: dict[str, Callable[[str], bool]] = {
    "email": _is_somebodys,
    **{kind: check for kind, _, check in _NUMBERS},
}


def is_somebodys(kind: str, text: str) -> bool:
    """Whether what has this form can belong to a person; of kinds without a check it can."""
    return _CHECKS.get(kind, bool)(text)
