"""Which of several drawn turns is taken: the one that a person might have typed.

A model that predicts people well still draws turns that betray it: too many questions, sentences
too neatly ended. A classifier that has learned to tell its turns from people's knows by how much,
and a turn that is taken with a chance in proportion to the odds of being a person's is distributed
as people's are, as far as the classifier can tell (sampling-importance-resampling, Rubin 1987; with
a discriminator's odds, Azadi et al. 2019). Whether a user leaves is not decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zipfile import BadZipFile

from usersim.errors import InputError
from usersim.fidelity.classifiers import FEATURES, LinearModel, counted, shape
from usersim.fidelity.habits import HABITS
from usersim.files import whole_file
from usersim.surface import word_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = ("first", "later")
"""Openers and later turns differ too much for one model."""
LENGTHS = 9
"""Classes of doubling length: no word, one, two or three, and so on to 128 words and more."""
COLUMNS = len(shape("")) + len(HABITS) + LENGTHS
"""A column of its own makes each habit that fidelity counts, in a logistic regression, as frequent
among weighted turns as among people's."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What tells people's turns from a user model's own, for openers and for later turns."""

    first: LinearModel
    later: LinearModel

    def ranked(self, texts: Sequence[str], opens: bool, seed: int) -> list[int]:
        """Places of the texts in an order drawn by their odds; the first is the one to take.

        Draws without replacement by the largest of log odds plus Gumbel noise: the same seed gives
        the same order.
        """
        import numpy as np

        if len(texts) < 2:
            return list(range(len(texts)))
        noise = np.random.default_rng(seed).gumbel(size=len(texts))
        model = self.first if opens else self.later
        order: list[int] = np.argsort(-(model.log_odds(noticed(texts)) + noise)).tolist()
        return order

    @classmethod
    def blind(cls) -> Self:
        """One that sees no difference: every text is as likely to be taken."""
        import numpy as np

        ones = np.ones(FEATURES)
        weights = np.zeros(2 * FEATURES + COLUMNS)
        model = LinearModel((ones, ones), np.ones(COLUMNS), weights, 0.0)
        return cls(model, model)

    def write(self, path: Path) -> None:
        """Keep it as plain arrays (npz), whole or not at all."""
        import numpy as np

        arrays = {
            f"{part}_{name}": array
            for part in PARTS
            for name, array in _arrays(getattr(self, part)).items()
        }
        with whole_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` left. Raises InputError when there is none or it is something else."""
        import numpy as np

        try:
            with np.load(path, allow_pickle=False) as arrays:
                models = [_model(part, arrays) for part in PARTS]
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise InputError(
                f"{path} is no learned likeness ({error}): `realchat learn-likeness` makes one, and"
                " simulate.candidates=1 takes turns as they are drawn"
            ) from error
        return cls(*models)


def noticed(texts: Sequence[str]) -> list[Any]:
    """What turns are weighed by: counts of words and pieces, and shapes with habits and length."""
    from scipy.sparse import csr_matrix, hstack

    words, pieces, shapes = counted(texts)
    habits = csr_matrix([_habits(text) for text in texts])
    return [words, pieces, hstack([shapes, habits]).tocsr()]


def _habits(text: str) -> list[float]:
    lengths = [0.0] * LENGTHS
    lengths[min(word_count(text).bit_length(), LENGTHS - 1)] = 1.0
    return [float(has(text)) for has in HABITS.values()] + lengths


def _arrays(model: LinearModel) -> "dict[str, NDArray[np.float32]]":
    import numpy as np

    words, pieces = model.idf
    table = {
        "words": words,
        "pieces": pieces,
        "scale": model.scale,
        "weights": model.weights,
        "intercept": np.array([model.intercept]),
    }
    return {name: array.astype(np.float32) for name, array in table.items()}


def _model(part: str, arrays: "dict[str, NDArray[np.float32]]") -> LinearModel:
    names = ("words", "pieces", "scale", "weights", "intercept")
    words, pieces, scale, weights, intercept = (
        arrays[f"{part}_{name}"].astype("float64") for name in names
    )
    sizes = [len(words), len(pieces), len(scale), len(weights)]
    if sizes != [FEATURES, FEATURES, COLUMNS, 2 * FEATURES + COLUMNS]:
        raise ValueError("arrays of other sizes, or of an earlier version")
    return LinearModel((words, pieces), scale, weights, float(intercept[0]))
