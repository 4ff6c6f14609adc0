"""How people type, figure by figure: relative errors of simulated users, and distances of lengths.

Words, case, punctuation, questions, politeness, misspellings, very short and very long turns; of
first turns, of later ones, and by the number of the turn.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from usersim.cleaning import outside_code
from usersim.fidelity.designs import (
    Compared,
    Design,
    Summary,
    jensen_shannon,
    relative_error,
    sums_of,
    wasserstein,
)
from usersim.fidelity.intervals import ratios, rounded, weighted_medians
from usersim.fidelity.persons import BY_TURN, PARTS, Person, turns_of
from usersim.surface import DEFINITIONS as SURFACE
from usersim.surface import LONG_WORDS, SHARES, word_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST_LETTERS = 4
COMMON = 20
"""How often the word that was meant stands in the dictionary's counts; rarer ones prove nothing."""
_PLAIN_WORD = re.compile(
    rf"(?<![\w'`/.@#$_\-])[a-z]{{{FEWEST_LETTERS},20}}(?![\w'`/@_\-(=]|\.\w|://)"
)
_TERMS = frozenset({
    "admin", "async", "backend", "blockchain", "codec", "config", "crypto", "dict", "elif", "enum",
    "eval", "frontend", "intro", "json", "kwargs", "login", "param", "params", "postgres",
    "refactor", "regex", "repo", "sudo", "tech", "wifi", "yaml",
})  # fmt: skip
"""Words of the trade that the dictionary lacks and that are one edit from a common one."""


GROUPS = PARTS | BY_TURN
DEFINITIONS = {
    "words_mean": f"mean words of a turn; one of more than {LONG_WORDS} counts as {LONG_WORDS}",
    "words_median": "median words of a turn",
    **{name: SURFACE[name] for name in SHARES},
    "misspelt": "share of turns with a plain lower-case word of four letters or more that no "
    "English dictionary knows and that is one edit away from a common one",
    "error": "relative error, simulated / real - 1; its floor is the size of the same error "
    "between two halves of the real people",
    "words": f"Wasserstein-1 distance of words per turn (more than {LONG_WORDS} count as that), in "
    "words",
    "words_js": "Jensen-Shannon divergence of words per turn in classes of doubling width, in bits",
}


@lru_cache(maxsize=1)
def _dictionary() -> Any:
    from spellchecker import SpellChecker

    return SpellChecker(language="en", distance=1)


@lru_cache(maxsize=100_000)
def _is_slip(word: str) -> bool:
    known = _dictionary()
    if word in known or word in _TERMS:
        return False
    meant = known.known(known.edit_distance_1(word))
    return any(known.word_frequency[candidate] >= COMMON for candidate in meant)


def is_misspelt(text: str) -> bool:
    """Whether a turn holds a slip of the pen: an unknown word one edit from a common English one.

    Only plain lower-case words in running text are looked at: names, code and acronyms are not.
    """
    return any(_is_slip(word) for word in set(_PLAIN_WORD.findall(outside_code(text))))


HABITS: dict[str, Callable[[str], bool]] = {**SHARES, "misspelt": is_misspelt}
"""Statistics that are shares of turns, each by its test."""
STATISTICS: dict[str, Callable[[str], float]] = {
    "words_mean": lambda text: min(word_count(text), LONG_WORDS),
    **HABITS,
}
NAMES = ("words_median", *STATISTICS)


class Habits:
    """What is counted of one side's turns, ready for any weights over its persons."""

    def __init__(self, persons: Sequence[Person], max_turns: int | None = None) -> None:
        import numpy as np

        turns = turns_of(persons, max_turns)
        self._number = len(persons)
        self._person = np.array([turn.person for turn in turns], dtype=np.int64)
        self._words = np.array([word_count(turn.text) for turn in turns], dtype=float)
        rows = [[float(test(t.text)) for test in STATISTICS.values()] for t in turns]
        self._values = np.array(rows, dtype=float).reshape(len(turns), len(STATISTICS))
        self._member = {
            name: np.array([test(t.index) for t in turns], dtype=bool)
            for name, test in GROUPS.items()
        }

    def turns(self, group: str) -> int:
        """How many turns a group has."""
        return int(self._member[group].sum())

    def averages(self, group: str) -> Summary:
        """For weights: the statistics of NAMES over the group's turns."""
        import numpy as np

        inside = self._member[group]
        person, words = self._person[inside], self._words[inside]
        sums = sums_of(self._number, person, self._values[inside])
        counts = sums_of(self._number, person, np.ones((len(person), 1)))

        def summary(weights: "Floats") -> "Floats":
            medians = weighted_medians(weights, words, person)
            return np.column_stack([medians, ratios(weights, sums, counts)])

        return summary

    def lengths(self, group: str, *, doubling: bool = False) -> Summary:
        """For weights: how many turns have each number of words, or each class of them."""
        import numpy as np

        inside = self._member[group]
        words = self._words[inside]
        classes = np.log2(np.maximum(words, 1)) if doubling else np.minimum(words, LONG_WORDS)
        bins = np.zeros((len(words), LONG_WORDS + 1))
        bins[np.arange(len(words)), np.minimum(classes.astype(int), LONG_WORDS)] = 1
        sums = sums_of(self._number, self._person[inside], bins)
        return lambda weights: weights @ sums


def habit_figures(
    simulated: Sequence[Person],
    real: Sequence[Person],
    prompted: Sequence[Person] = (),
    max_turns: int | None = None,
) -> dict[str, Any]:
    """`groups` (statistics and their errors), `distances`, `worst` errors, `definitions`.

    `max_turns` is how many user turns of a conversation are looked at on every side: a simulation
    with a cap on rounds has no later ones. A statistic is `real`, `simulated`, `prompted` and
    `error`, a figure as in `designs.DEFINITIONS`; the baseline's error is its `prompted`.
    """
    sides = {"simulated": simulated, "prompted": prompted}
    design = {name: Design.of(side, real) for name, side in sides.items() if side}
    counted = {name: Habits(side, max_turns) for name, side in sides.items() if side}
    people = Habits(real, max_turns)
    groups = {group: _group(group, design, counted, people) for group in GROUPS}
    return {
        "groups": groups,
        "distances": _distances(design, counted, people),
        "worst": _worst(groups),
        "definitions": DEFINITIONS,
    }


def _group(
    group: str, design: dict[str, Design], counted: dict[str, Habits], people: Habits
) -> dict[str, Any]:
    import numpy as np

    real = people.averages(group)(np.ones((1, people._number)))[0]
    table: dict[str, Any] = {"turns": {"real": people.turns(group)}, "statistics": {}}
    found = {}
    for side, habits in counted.items():
        table["turns"][side] = habits.turns(group)
        summary = habits.averages(group)
        errors = Compared.of(design[side], summary, people.averages(group), relative_error)
        found[side] = (summary(np.ones((1, habits._number)))[0], errors)
    for number, name in enumerate(NAMES):
        row: dict[str, Any] = {"real": rounded(float(real[number]))}
        for side, (averages, errors) in found.items():
            row[side] = rounded(float(averages[number]))
            if side == "simulated":
                row["error"] = errors.figure(number, signed=True)
            elif "error" in row:
                row["error"]["prompted"] = errors.plain_figure(number)
        table["statistics"][name] = row
    return table


def _distances(
    design: dict[str, Design], counted: dict[str, Habits], people: Habits
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for group in ("first", "later"):
        for name, doubling, distance in (
            ("words", False, wasserstein),
            ("words_js", True, jensen_shannon),
        ):
            real = people.lengths(group, doubling=doubling)
            for side, habits in counted.items():
                found = Compared.of(
                    design[side], habits.lengths(group, doubling=doubling), real, distance
                ).settled()
                key = f"{name}_{group}"
                if side == "simulated":
                    table[key] = found.figure(0)
                elif key in table:
                    table[key]["prompted"] = found.plain_figure(0)
    return table


def _worst(groups: dict[str, Any]) -> list[dict[str, Any]]:
    """Statistics of first and later turns by the size of their error, the largest first."""
    rows = [
        {"group": group, "statistic": name, "error": row["error"]["value"]}
        for group in ("first", "later")
        for name, row in groups[group]["statistics"].items()
        if row.get("error") and row["error"]["value"] is not None
    ]
    return sorted(rows, key=lambda row: -abs(row["error"]))
