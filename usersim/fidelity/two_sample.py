"""Classifier two-sample test: how well can simulated turns be told from real ones, and by what?

Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", 2017, with AUC in place of accuracy:
it needs no threshold and does not mind unequal sides. 0.5 is what identical distributions give, 1.0
what never overlaps. Cross-validated by person: nobody's turns are on both sides of a fold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from usersim.conversation import Conversation
from usersim.fidelity.auc import auc, weighted_auc
from usersim.fidelity.classifiers import CLASSIFIERS, Classifier
from usersim.fidelity.floors import check_sides, matched_size
from usersim.fidelity.intervals import DRAWS, estimate, person_draws, rounded
from usersim.fidelity.persons import PARTS, Person, halves, persons_of, shuffled, turns_of
from usersim.fidelity.telling_words import PRIOR, TellingWord, telling_words
from usersim.progress import track
from usersim.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FEWEST_TURNS = 20
"""Turns that each side must have; of fewer no classifier learns anything."""

DEFINITIONS = {
    "auc": "area under the ROC curve of a classifier that tells simulated from real turns, "
    "cross-validated by person; 0.5 is chance. Pairs are compared within folds. low, high: "
    "bootstrap over the persons who are scored; what was learned from the others is held fixed",
    "floor": "the same of real people against real people, mean over splits (low, high: smallest "
    "and largest). floor_of `others`: against as many other real people as are simulated; "
    "`halves`: between two halves of the real people. Below 0.5 is no mistake: what one side has "
    "more of by chance in training, it has less of in the fold that is asked about",
    "auc_at_floor_size": "simulated against real with as many persons a side as the floor has",
    "excess": "auc_at_floor_size - floor",
    "words": "words and pairs of words by how many persons use them; z: log odds ratio over its "
    f"standard error (Jeffreys' {PRIOR} added to each count), above 0 where simulated users say it "
    "too often",
}


class TwoSampleSettings(Settings):
    """How the test is done."""

    folds: int = Field(5, ge=2, description="folds of the cross-validation")
    splits: int = Field(5, ge=0, description="halvings of the real people behind a floor; 0: none")
    max_turns: int | None = Field(
        None, ge=1, description="user turns of a conversation that are looked at; null: all"
    )
    words: int = Field(15, ge=0, description="words shown on each side")
    classifiers: tuple[Literal["linear", "fasttext"], ...] = Field(
        ("linear", "fasttext"), description="classifiers"
    )


def two_sample(
    real: Sequence[Conversation],
    simulated: Sequence[Conversation],
    settings: TwoSampleSettings | None = None,
    person_of: Mapping[str, str] | None = None,
    others: Sequence[Conversation] = (),
) -> dict[str, Any]:
    """How well `simulated` user turns can be told from `real` ones, JSON-able.

    Returns `first` and `later` (of the turns), each with `real_turns`, `simulated_turns`,
    `real_persons`, `simulated_persons`, for every classifier `auc`, `low`, `high`, `floor`,
    `floor_low`, `floor_high`, `floor_persons`, `floor_of`, `auc_at_floor_size`, `excess` (None
    where a side has fewer than 20 such turns), and `words` with `too_often` and `too_seldom`; and
    `definitions`.

    `person_of` maps ids of real conversations to the person who held it; without it each
    conversation is a person's own. `others` are more real people (those a model learned from will
    do): with enough of them the floor is of the comparison's own size, else it is of halves of
    `real`. Raises InputError when a side is empty.
    """
    chosen = settings or TwoSampleSettings()
    simulated_persons, real_persons = persons_of(simulated), persons_of(real, person_of)
    check_sides(simulated_persons, real_persons)
    # Folds take every n-th person: the order must be chance, which ids as such need not be.
    sides = {
        "simulated": shuffled(simulated_persons),
        "real": shuffled(real_persons),
        # Some have no later turn: twice as many as the splits need.
        "others": shuffled(persons_of(others))[: 2 * chosen.splits * len(simulated_persons)],
    }
    parts = [Part(sides, chosen, name) for name in PARTS]
    steps = sum(part.steps for part in parts)
    with track("tell apart", total=steps, unit="trainings") as bar:
        found = {part.name: part.table(bar.advance) for part in parts}
    return found | {"definitions": DEFINITIONS}


@dataclass(frozen=True, slots=True)
class Rows:
    """Turns of a group of persons, as positions among all texts; `person` counts within it."""

    texts: "Ints"
    person: "Ints"
    persons: int


class Part:
    """First turns, or later ones, of both sides."""

    def __init__(
        self, sides: Mapping[str, Sequence[Person]], settings: TwoSampleSettings, name: str
    ) -> None:
        self.name, self.settings = name, settings
        self._texts: list[str] = []
        self._of: dict[tuple[str, str], list[int]] = {}
        self.persons = {
            side: self._entered(side, persons, PARTS[name]) for side, persons in sides.items()
        }

    def _entered(
        self, side: str, persons: Sequence[Person], wanted: Callable[[int], bool]
    ) -> list[Person]:
        """Enter the texts of those persons who have such turns, and return those persons."""
        for turn in turns_of(persons, self.settings.max_turns):
            if not wanted(turn.index):
                continue
            rows = self._of.setdefault((side, persons[turn.person].id), [])
            rows.append(len(self._texts))
            self._texts.append(turn.text)
        return [person for person in persons if (side, person.id) in self._of]

    @property
    def enough(self) -> bool:
        """Whether there are turns and persons enough on both sides to train and to test."""
        sides = self.all_rows("simulated"), self.all_rows("real")
        return all(len(s.texts) >= FEWEST_TURNS and s.persons >= self.settings.folds for s in sides)

    @property
    def steps(self) -> int:
        """Cross-validations to be done."""
        each = 1 if self.has_others else 2
        trials = 1 + each * self.settings.splits
        return len(self.settings.classifiers) * trials if self.enough else 0

    @property
    def has_others(self) -> bool:
        """Whether there are other real people enough for a floor of the comparison's size."""
        needed = self.settings.splits * len(self.persons["simulated"])
        return 0 < needed <= len(self.persons["others"])

    def all_rows(self, side: str) -> Rows:
        """Where the texts of a side stand."""
        return self.rows(side, self.persons[side])

    def rows(self, side: str, persons: Sequence[Person]) -> Rows:
        """Where the texts of these persons of a side stand."""
        import numpy as np

        found = [(row, n) for n, p in enumerate(persons) for row in self._of[side, p.id]]
        pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
        return Rows(pairs[:, 0], pairs[:, 1], len(persons))

    def table(self, advance: Callable[[], None]) -> dict[str, Any]:
        """The part's figures."""
        simulated, real = self.all_rows("simulated"), self.all_rows("real")
        table: dict[str, Any] = {
            "real_turns": len(real.texts),
            "simulated_turns": len(simulated.texts),
            "real_persons": real.persons,
            "simulated_persons": simulated.persons,
        }
        for name in self.settings.classifiers:
            table[name] = None
            if self.enough:
                classifier = CLASSIFIERS[name](self._texts)
                table[name] = self._told(classifier, simulated, real, advance)
        return table | {"words": self._words(simulated, real)}

    def _told(
        self, classifier: Classifier, simulated: Rows, real: Rows, advance: Callable[[], None]
    ) -> dict[str, Any]:
        whole = Trial(classifier, simulated, real, self.settings.folds)
        value, low, high = whole.auc_with_interval()
        advance()
        table: dict[str, Any] = {"auc": value, "low": low, "high": high}
        if self.has_others:
            return table | self._floor_of_others(classifier, real, value, advance)
        return table | self._floor_of_halves(classifier, advance)

    def _floor_of_others(
        self, classifier: Classifier, real: Rows, value: float | None, advance: Callable[[], None]
    ) -> dict[str, Any]:
        size, floors = len(self.persons["simulated"]), []
        for number in range(self.settings.splits):
            group = self.persons["others"][number * size : (number + 1) * size]
            rows = self.rows("others", group)
            floors.append(Trial(classifier, rows, real, self.settings.folds).auc())
            advance()
        return _floor(floors, [value], size) | {"floor_of": "others"}

    def _floor_of_halves(
        self, classifier: Classifier, advance: Callable[[], None]
    ) -> dict[str, Any]:
        floors: list[float | None] = []
        matched: list[float | None] = []
        simulated, real = self.persons["simulated"], self.persons["real"]
        size = matched_size(len(simulated), len(real))
        for salt in range(self.settings.splits if size >= self.settings.folds else 0):
            left, right = (self.rows("real", half[:size]) for half in halves(real, salt))
            drawn = self.rows("simulated", shuffled(simulated, salt)[:size])
            for rows, results in ((left, floors), (drawn, matched)):
                results.append(Trial(classifier, rows, right, self.settings.folds).auc())
                advance()
        return _floor(floors, matched, size) | {"floor_of": "halves"}

    def _words(self, simulated: Rows, real: Rows) -> dict[str, list[TellingWord]]:
        said = [self._said(rows) for rows in (simulated, real)]
        found = telling_words(*said)
        often = [w for w in reversed(found) if w["z"] > 0][: self.settings.words]
        seldom = [w for w in found if w["z"] < 0][: self.settings.words]
        return {"too_often": often, "too_seldom": seldom}

    def _said(self, rows: Rows) -> list[list[str]]:
        """The texts of each person."""
        said: list[list[str]] = [[] for _ in range(rows.persons)]
        for text, person in zip(rows.texts.tolist(), rows.person.tolist(), strict=True):
            said[person].append(self._texts[text])
        return said


def _floor(
    floors: Sequence[float | None], matched: Sequence[float | None], size: int
) -> dict[str, float | None]:
    known = [f for f in floors if f is not None]
    values = [v for v in matched if v is not None]
    floor = sum(known) / len(known) if known else None
    value = sum(values) / len(values) if values else None
    return {
        "floor": rounded(floor),
        "floor_low": rounded(min(known, default=None)),
        "floor_high": rounded(max(known, default=None)),
        "floor_persons": size,
        "auc_at_floor_size": rounded(value),
        "excess": None if floor is None or value is None else rounded(value - floor),
    }


class Trial:
    """One cross-validation: every turn scored by a model that saw nothing of its speaker."""

    def __init__(self, classifier: Classifier, simulated: Rows, real: Rows, folds: int) -> None:
        import numpy as np

        self._sizes = simulated.persons, real.persons
        texts = np.concatenate([simulated.texts, real.texts])
        self._positive = np.arange(len(texts)) < len(simulated.texts)
        # Persons come in an order that is chance (the hash of their ids): every n-th is a draw.
        self._person = np.concatenate([simulated.person, real.person])
        self._fold = self._person % folds
        self._scores = np.zeros(len(texts))
        for number in range(folds):
            asked, known = self._fold == number, self._fold != number
            if asked.any():
                self._scores[asked] = classifier.scores(
                    texts[known], self._positive[known], texts[asked]
                )

    def auc(self) -> float | None:
        """The area under the curve."""
        return auc(self._scores, self._positive, self._fold)

    def auc_with_interval(self) -> tuple[float | None, float | None, float | None]:
        """The area, and the ends of its interval over persons."""
        import numpy as np

        simulated, real = (person_draws(n, DRAWS, seed) for seed, n in enumerate(self._sizes))
        weights = np.concatenate(
            [simulated[:, self._person[self._positive]], real[:, self._person[~self._positive]]],
            axis=1,
        )
        samples = weighted_auc(self._scores, self._positive, self._fold, weights)
        found = estimate(self.auc(), samples)
        return found["value"], found["low"], found["high"]
