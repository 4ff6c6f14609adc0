"""Two classifiers that try to tell simulated turns from real ones.

A classifier here is made from all texts, so that what does not depend on labels (hashed n-grams,
cleaned lines) is done once; it is then trained on some and asked about others, fold after fold.
"""

import math
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]
    Counts = list[Any]  # of sparse matrices

CHARACTERS = 2_000
"""What is read of a turn; one of 17,000 pasted words would take as long as all the others."""
FEATURES = 1 << 16
"""Hashed words and pairs, and as many character pieces: more make training slow, not better."""
SHAPE_WEIGHT = 0.2
_MARK = "__side__"  # fastText's label prefix; taken out of texts, which could else name their side
_LABEL = re.compile(rf"{_MARK}\w*")
_TOKEN = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


class Classifier(Protocol):
    """Learns from the texts at some positions, scores those at others; higher means simulated."""

    def scores(self, train: "Ints", simulated: "Bools", asked: "Ints") -> "Floats":
        """Scores of the texts `asked`; `simulated` are the labels of `train`."""
        ...


def tokens(text: str) -> list[str]:
    """Words and single punctuation marks, case kept."""
    return _TOKEN.findall(text)


@dataclass(frozen=True)
class LinearModel:
    """A fitted logistic regression, as arrays: what it weighs a turn's counts and shape by."""

    idf: "tuple[Floats, Floats]"
    """Inverse document frequencies, of words and of pieces: FEATURES each."""
    scale: "Floats"
    """Of each entry of a shape."""
    weights: "Floats"
    """Of words, pieces and shape, one after the other."""
    intercept: float

    @classmethod
    def fit(cls, counts: "Counts", positive: "Bools") -> Self:
        """scikit-learn's `LogisticRegression(C=10)`, balanced, on tf-idf and scaled shapes."""
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        *texts, shapes = counts
        words, pieces = (TfidfTransformer(sublinear_tf=True).fit(part).idf_ for part in texts)
        scale = StandardScaler(with_mean=False).fit(shapes).scale_
        unfitted = cls((words, pieces), scale, scale, 0.0)
        model = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear")
        model.fit(unfitted.weighed(counts), positive)
        return cls((words, pieces), scale, model.coef_[0], float(model.intercept_[0]))

    def log_odds(self, counts: "Counts") -> "Floats":
        """Of being positive, a turn each, had both sides been of one size."""
        found: Floats = self.weighed(counts) @ self.weights + self.intercept
        return found

    def weighed(self, counts: "Counts") -> Any:
        """The rows that the regression reads."""
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfTransformer

        *texts, shapes = counts
        rows = []
        for part, idf in zip(texts, self.idf, strict=True):
            weigh = TfidfTransformer(sublinear_tf=True)
            weigh.idf_ = idf
            rows.append(weigh.transform(part))
        # A shape of unit variance would drown n-grams, whose rows have unit length as a whole.
        rows.append(shapes.multiply(SHAPE_WEIGHT / self.scale))
        return hstack(rows).tocsr()


def counted(texts: Sequence[str]) -> "Counts":
    """Hashed words and pairs of words, hashed character pieces, and shapes: a row a text each."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import HashingVectorizer

    fixed: dict[str, Any] = {"alternate_sign": False, "norm": None, "lowercase": False}
    words = HashingVectorizer(
        n_features=FEATURES, ngram_range=(1, 2), tokenizer=tokens, token_pattern=None, **fixed
    )
    pieces = HashingVectorizer(n_features=FEATURES, ngram_range=(2, 4), analyzer="char_wb", **fixed)
    read = [text[:CHARACTERS] for text in texts]
    return [
        words.transform(read),
        pieces.transform(read),
        csr_matrix([shape(text) for text in texts]),
    ]


class LinearClassifier:
    """Logistic regression on word and character n-grams (tf-idf) and the shape of a turn.

    What depends on labels or on how often something is said is fitted on the training texts alone.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = counted(texts)

    def scores(self, train: "Ints", simulated: "Bools", asked: "Ints") -> "Floats":
        """Log odds of being simulated."""
        model = LinearModel.fit([part[train] for part in self._counts], simulated)
        return model.log_odds([part[asked] for part in self._counts])


def shape(text: str) -> list[float]:
    """What n-grams do not see of a turn: its length, its lines, its case, how it ends."""
    stripped = text.strip()
    letters = [c for c in stripped if c.isalpha()]
    words = len(stripped.split())
    return [
        math.log1p(words),
        math.log1p(len(stripped) / max(1, words)),
        math.log1p(stripped.count("\n")),
        float(stripped[:1].islower()),
        sum(c.isupper() for c in letters) / max(1, len(letters)),
        float(stripped.endswith((".", "?", "!"))),
    ]


class FastTextClassifier:
    """fastText's supervised classifier: averaged vectors of words, pairs of words and pieces.

    One thread and a fixed seed, so that the same texts give the same scores.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._lines = [_line(text) for text in texts]

    def scores(self, train: "Ints", simulated: "Bools", asked: "Ints") -> "Floats":
        """Probability of being simulated."""
        import numpy as np

        if len(np.unique(simulated)) < 2:
            return np.full(len(asked), 0.5)
        model = self._trained(train, simulated)
        # A list at a time: fastText's own answer to one line breaks under some providers.
        labels, chances = model.predict([self._lines[i] for i in asked], k=2)
        yes = f"{_MARK}1"
        # No known word, no answer: nothing can be told.
        return np.array(
            [dict(zip(a, b, strict=True)).get(yes, 0.5) for a, b in zip(labels, chances)],  # noqa: B905
            dtype=float,
        )

    def _trained(self, train: "Ints", simulated: "Bools") -> Any:
        import fasttext

        fasttext.FastText.eprint = _silently
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "turns.txt"
            with path.open("w", encoding="utf-8") as file:
                for i, label in zip(train, simulated, strict=True):
                    file.write(f"{_MARK}{int(label)} {self._lines[i]}\n")
            return fasttext.train_supervised(
                str(path), label=_MARK, thread=1, seed=1, verbose=0, **_FASTTEXT
            )


_FASTTEXT: dict[str, Any] = {
    "epoch": 25,
    "lr": 0.5,
    "dim": 32,
    "wordNgrams": 2,
    "minn": 2,
    "maxn": 4,
    "bucket": 50_000,
}
CLASSIFIERS: dict[str, Callable[[Sequence[str]], Classifier]] = {
    "linear": LinearClassifier,
    "fasttext": FastTextClassifier,
}


def _silently(*_: object) -> None:
    """Swallows what fastText would print."""


def _line(text: str) -> str:
    """A turn on one line, without what fastText would read as a label."""
    line = " ".join(tokens(_LABEL.sub(" ", text[:CHARACTERS])))
    return line.encode("utf-8", "replace").decode()
