"""May this be published, and under which license? Folded from the license of every source.

The table knows what each license demands of those who pass on a changed copy (a corpus is cleaned,
cut and mixed; a trained model is derived). It is caution, not legal advice: what it does not know
is refused until a person states, on the card, why it may be published.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from usersim.errors import InputError

UNKNOWN = "unknown"
ATTRIBUTION, NONCOMMERCIAL, ITSELF, NEVER = "attribution", "noncommercial", "itself", "never"

# What a license demands of a changed copy, by its name on the Hub. `itself`: the copy has to carry
# this very license (share-alike, and the terms of model makers); `never`: no changed copies.
_DEMANDS: dict[frozenset[str], tuple[str, ...]] = {
    frozenset(): ("cc0-1.0", "pddl", "unlicense", "wtfpl"),
    frozenset({ATTRIBUTION}): (
        "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-2.5",
        "cc-by-3.0", "cc-by-4.0", "odc-by", "cdla-permissive-1.0", "cdla-permissive-2.0",
    ),
    frozenset({ATTRIBUTION, ITSELF}): (
        "cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "cdla-sharing-1.0", "gfdl", "gpl-3.0", "lgpl-3.0",
        "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "openrail",
    ),
    frozenset({ATTRIBUTION, NONCOMMERCIAL}): ("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    frozenset({ATTRIBUTION, NONCOMMERCIAL, ITSELF}): ("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    frozenset({NEVER}): (
        "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "lmsys-chat-1m", "proprietary",
        "all-rights-reserved", "no-redistribution",
    ),
}  # fmt: skip
DEMANDS = {name: demands for demands, names in _DEMANDS.items() for name in names}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: where something comes from, its license, how much of it."""

    source: str
    license: str
    count: int | None = None
    unit: str = "conversations"


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be published: the license it goes under, and the ledger that it was folded from."""

    license: str
    ledger: tuple[Entry, ...]
    confirmed: str | None = None
    """What the publisher stated about licenses that are not known; for the card."""


def normal(name: str) -> str:
    """A license's name as the Hub spells it, as far as spelling goes; "unknown" for none."""
    plain = "-".join(name.lower().replace("_", "-").split())
    return UNKNOWN if plain in ("", "unstated", "other", "none", "not-stated") else plain


def permission(
    ledger: Sequence[Entry], stated: str = UNKNOWN, confirmed: str | None = None
) -> Permission:
    """The license to publish under.

    Args:
        ledger: Every source with its license.
        stated: The license that the recipe names for the whole, or "unknown".
        confirmed: What the publisher states where a license is not known.

    Raises:
        InputError: a source forbids it, two sources exclude each other, the stated license takes
            away what a source demands, or a license is not known and nobody states anything.
    """
    names = {normal(entry.license) for entry in ledger} or {UNKNOWN}
    known = sorted(names & DEMANDS.keys())
    unknown = sorted(names - DEMANDS.keys())
    _refuse_forbidden(ledger, [name for name in known if NEVER in DEMANDS[name]])
    wanted = normal(stated)
    folded = _covering(known)
    if wanted in DEMANDS:
        _check_stated(wanted, known)
        folded = wanted
    elif wanted != UNKNOWN:
        unknown.append(wanted)
    if unknown and not confirmed:
        raise InputError(_unknown_message(ledger, unknown))
    # A known license of some rows says nothing about the others: the card then speaks for itself.
    license = folded if folded and (wanted in DEMANDS or not unknown) else "other"
    return Permission(license, tuple(ledger), confirmed if unknown else None)


def _covers(license: str, other: str) -> bool:
    """Whether a copy under `license` keeps what `other` demands."""
    if ITSELF in DEMANDS[other]:
        return license == other
    return DEMANDS[other] <= DEMANDS[license] and NEVER not in DEMANDS[license]


def _covering(known: Sequence[str]) -> str | None:
    """The mildest of these licenses that keeps what all of them demand; None for none."""
    if not known:
        return None
    fit = [name for name in known if all(_covers(name, other) for other in known)]
    if not fit:
        raise InputError(
            f"nothing can be published from a mix of {', '.join(known)}: no license keeps what all "
            "of them demand; leave one source out and make the corpus anew"
        )
    return min(fit, key=lambda name: (len(DEMANDS[name]), name))


def _refuse_forbidden(ledger: Sequence[Entry], names: Sequence[str]) -> None:
    if names:
        sources = sorted({e.source or "rows" for e in ledger if normal(e.license) in names})
        raise InputError(
            f"{', '.join(names)} forbids to publish what was made of {', '.join(sources)}; "
            "leave that source out and make it anew"
        )


def _check_stated(stated: str, known: Sequence[str]) -> None:
    """A license that the recipe states must keep what every source demands."""
    broken = [name for name in known if not _covers(stated, name)]
    if NEVER in DEMANDS[stated] or broken:
        why = f"does not keep what {', '.join(broken)} demands" if broken else "forbids it"
        raise InputError(
            f"corpus.license is {stated}, which {why}; state another (corpus.license=...) and run "
            "`realchat corpus --redo`"
        )


def _unknown_message(ledger: Sequence[Entry], unknown: Sequence[str]) -> str:
    lines = [
        f"  {e.source or 'rows'}: {e.license or 'not stated'}{_counted(e)}"
        for e in ledger
        if normal(e.license) in unknown
    ]
    return "\n".join(
        [
            f"it is not known whether this may be published ({', '.join(unknown)}):",
            *lines,
            'if you know that it may, say why; it goes into the card: --license-confirmed "..."',
        ]
    )


def _counted(entry: Entry) -> str:
    return "" if entry.count is None else f", {entry.count} {entry.unit}"
