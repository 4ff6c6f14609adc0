"""Variety: how different openers are from one another across a run, and who repeats themselves."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from usersim.fidelity.designs import Compared, Design, Summary, sums_of
from usersim.fidelity.floors import against_floor
from usersim.fidelity.intervals import ratios, rounded
from usersim.fidelity.persons import Person, conversations_of, turns_of
from usersim.guards import words_of
from usersim.neardup import jaccard
from usersim.shingling import Shingling
from usersim.surface import opening

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

REPEATED = 0.8
_SHINGLING = Shingling(3)

DEFINITIONS = {
    "first_turn_diversity": "100 x (1 - mean Jaccard similarity of the word sets of two openers "
    "of different persons), over all pairs; does not depend on how many there are. In points",
    "distinct_openings": "distinct first three words / openers, expected in a sample as large as "
    "the smaller side (rarefaction, Hurlbert 1971): such a share falls as a set grows",
    "distinct_openers": "the same for whole openers, case and spacing ignored",
    "repeated_turns": "share of later user turns that are within 0.8 Jaccard (three-word shingles) "
    "of an earlier one of the same conversation",
    "difference": "simulated - real; its floor is the size of the same between two halves of the "
    "real people",
}


def variety_figures(
    simulated: Sequence[Person], real: Sequence[Person], prompted: Sequence[Person] = ()
) -> dict[str, Any]:
    """`first_turn_diversity`, `distinct_openings`, `distinct_openers`, `repeated_turns`.

    Each has `real`, `simulated`, `prompted` (None without such a side) and `difference`, a figure
    as in `designs.DEFINITIONS`; and `definitions`. All openers of a run are pooled.
    """
    return {
        "first_turn_diversity": _linear(simulated, real, prompted, _diversity),
        "distinct_openings": _distinct(simulated, real, prompted, opening),
        "distinct_openers": _distinct(simulated, real, prompted, _plain),
        "repeated_turns": _linear(simulated, real, prompted, _repetition),
        "definitions": DEFINITIONS,
    }


def _linear(
    simulated: Sequence[Person], real: Sequence[Person], prompted: Sequence[Person], measure: Any
) -> dict[str, Any]:
    """A measure that weights over persons turn into a number."""
    import numpy as np

    people = measure(real)
    table: dict[str, Any] = {
        "real": rounded(float(people(np.ones((1, len(real))))[0, 0])),
        "prompted": None,
    }
    table["difference"] = {}
    for name, side in (("simulated", simulated), ("prompted", prompted)):
        if not side:
            continue
        summary = measure(side)
        table[name] = rounded(float(summary(np.ones((1, len(side))))[0, 0]))
        found = Compared.of(Design.of(side, real), summary, people, np.subtract)
        if name == "simulated":
            table["difference"] = found.figure(0, signed=True)
        else:
            table["difference"]["prompted"] = found.plain_figure(0)
    return table


def openers_of(persons: Sequence[Person]) -> list[tuple[int, str]]:
    """(person, opener) of every conversation."""
    return [(turn.person, turn.text) for turn in turns_of(persons, 1)]


def _diversity(persons: Sequence[Person]) -> Summary:
    """For weights: 100 x (1 - mean word Jaccard of two openers of different persons); rows x 1."""
    import numpy as np

    chosen = openers_of(persons)
    person = np.array([p for p, _ in chosen], dtype=np.int64)
    similar = word_similarity([text for _, text in chosen])
    # By person: similarity summed over the openers of two persons, and how many pairs that are.
    belongs = np.zeros((len(persons), len(chosen)))
    belongs[person, np.arange(len(chosen))] = 1
    sums, counts = belongs @ similar @ belongs.T, belongs.sum(axis=1)
    pairs = np.outer(counts, counts)
    np.fill_diagonal(sums, 0.0)  # a person drawn twice is no two people who say the same
    np.fill_diagonal(pairs, 0.0)

    def summary(weights: "Floats") -> "Floats":
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = ((weights @ sums) * weights).sum(axis=1) / ((weights @ pairs) * weights).sum(1)
        points: Floats = 100 * (1 - mean[:, None])
        return points

    return summary


def word_similarity(texts: Sequence[str]) -> "Floats":
    """Jaccard similarity of the sets of words of every two texts (texts x texts)."""
    import numpy as np
    from scipy.sparse import csr_matrix

    columns: dict[str, int] = {}
    rows = [
        sorted({columns.setdefault(w, len(columns)) for w in words_of(text) or [text.strip()]})
        for text in texts
    ]
    starts = np.cumsum([0, *(len(row) for row in rows)])
    places = np.array([column for row in rows for column in row], dtype=np.int64)
    table = csr_matrix((np.ones(len(places)), places, starts), (len(rows), len(columns)))
    shared = (table @ table.T).toarray()
    sizes = np.diff(starts)
    found: Floats = shared / (sizes[:, None] + sizes[None, :] - shared)
    return found


def _repetition(persons: Sequence[Person]) -> Summary:
    """For weights: share of later turns that repeat an earlier one; rows x 1."""
    import numpy as np

    rows = [
        (number, float(repeats))
        for number, person in enumerate(persons)
        for conversation in person.conversations
        for repeats in _repeats(conversation.user_turns)
    ]
    person = np.array([p for p, _ in rows], dtype=np.int64)
    said = np.array([r for _, r in rows], dtype=float).reshape(-1, 1)
    sums = sums_of(len(persons), person, said)
    counts = sums_of(len(persons), person, np.ones_like(said))
    return lambda weights: ratios(weights, sums, counts)


def _repeats(turns: Sequence[str]) -> list[bool]:
    sets = [_SHINGLING.shingles(turn) for turn in turns]
    return [
        any(jaccard(sets[n], earlier) >= REPEATED for earlier in sets[:n])
        for n in range(1, len(sets))
    ]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _distinct(
    simulated: Sequence[Person], real: Sequence[Person], prompted: Sequence[Person], key: Any
) -> dict[str, Any]:
    """Distinct keys of openers, all sides at the size of the smallest."""
    sides = {"real": real, "simulated": simulated, "prompted": prompted}
    keys = {name: [key(c.opener) for c in conversations_of(side)] for name, side in sides.items()}
    size = min(len(found) for found in keys.values() if found)

    def difference(left: Sequence[Person], right: Sequence[Person]) -> float | None:
        found = [[key(c.opener) for c in conversations_of(side)] for side in (left, right)]
        smaller = min(map(len, found))
        shares = [expected_distinct(side, smaller) for side in found]
        return None if None in shares else shares[0] - shares[1]  # type: ignore[operator]

    table: dict[str, Any] = {
        name: rounded(expected_distinct(found, size)) for name, found in keys.items()
    }
    table["sample"] = size
    if simulated:
        table["difference"] = against_floor(difference, simulated, real, signed=True)
        if prompted:
            table["difference"]["prompted"] = {"value": rounded(difference(prompted, real))}
    return table


def expected_distinct(keys: Sequence[str], sample: int) -> float | None:
    """Expected distinct keys / sample when `sample` of them are drawn without replacement.

    Hurlbert, "The nonconcept of species diversity", 1971, formula 14. None for an empty sample.
    """
    import math

    total = len(keys)
    if not 0 < sample <= total:
        return None
    whole = math.lgamma(total + 1) - math.lgamma(total - sample + 1)

    def missed(count: int) -> float:
        if total - count < sample:
            return 0.0
        left = math.lgamma(total - count + 1) - math.lgamma(total - count - sample + 1)
        return math.exp(left - whole)

    return sum(1 - missed(count) for count in Counter(keys).values()) / sample
