"""A fastText model of two kinds of text: trained here, or anybody's; it scores texts from 0 to 1.

One thread and a fixed seed: the same texts give the same model, byte for byte. Training is seconds.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from usersim.errors import InputError
from usersim.files import whole_file
from usersim.surface import stable_hash

if TYPE_CHECKING:
    from fasttext.FastText import _FastText

LABEL = "__label__"
GOOD, BAD = "good", "bad"
CHARACTERS = 2000  # of a text that are read; a pasted book would take as long as all the others
FEWEST = 100  # texts of a kind; of fewer no model learns anything
HELD_OUT = 5  # every fifth text, by its hash, is never learned from
_TRAINING: dict[str, Any] = {
    "epoch": 25, "lr": 0.5, "dim": 32, "wordNgrams": 2, "minn": 2, "maxn": 4, "bucket": 50_000,
}  # fmt: skip


class TextScorer:
    """The probability that a model gives one of its labels."""

    def __init__(self, path: Path, label: str = GOOD) -> None:
        """Load a model. Raises InputError when it is none, or does not know the label."""
        import fasttext

        if not path.is_file():
            raise InputError(f"no model at {path}: `realchat train-quality` makes one")
        try:
            self._model: _FastText = fasttext.load_model(str(path))
        except ValueError as error:
            raise InputError(f"{path} is not a fastText model: {error}") from error
        self._label = f"{LABEL}{label}"
        if self._label not in self._model.get_labels():
            known = ", ".join(name.removeprefix(LABEL) for name in self._model.get_labels()[:9])
            raise InputError(f"{path} has no label {label!r}; it has {known}")

    def scores(self, texts: Sequence[str]) -> list[float]:
        """The label's probability for each text; 0.5 where no word of it is known."""
        # A list at a time: fastText's own answer to one line breaks under some providers.
        labels, chances = self._model.predict([_line(text) for text in texts], k=-1)
        pairs = (
            dict(zip(a, map(float, b), strict=True)) for a, b in zip(labels, chances, strict=True)
        )
        return [min(pair.get(self._label, 0.5), 1.0) for pair in pairs]


def train_scorer(good: Iterable[str], bad: Iterable[str], out: Path) -> dict[str, Any]:
    """Train a model that tells good from bad texts, write it, return its held-out figures.

    A fifth of each kind, by the hash of the text, is held out; the larger kind is cut to the size
    of the smaller. Figures: `good`, `bad` (texts), `held_out`, `auc`, and `thresholds`: for some
    scores the share of good and of bad held-out texts that are below. Raises InputError with too
    few texts.
    """
    import fasttext

    sides = [_distinct(good), _distinct(bad)]
    size = min(map(len, sides))
    if size < FEWEST:
        raise InputError(f"{size} different texts of the rarer kind: a model needs {FEWEST}")
    rows = [
        (text, name) for name, side in zip((GOOD, BAD), sides, strict=True) for text in side[:size]
    ]
    held = [row for row in rows if stable_hash(row[0], salt=1) % HELD_OUT == 0]
    learned = [row for row in rows if stable_hash(row[0], salt=1) % HELD_OUT]
    # Not beside `out`: whatever stands there under a name of its kind is somebody's.
    with TemporaryDirectory(prefix="realchat-") as folder:
        path = Path(folder) / "learned.txt"
        path.write_text("".join(f"{LABEL}{n} {_line(t)}\n" for t, n in learned), encoding="utf-8")
        model = fasttext.train_supervised(str(path), thread=1, seed=1, verbose=0, **_TRAINING)
    with whole_file(out) as path:
        model.save_model(str(path))
    return {GOOD: size, BAD: size} | _held_out(TextScorer(out), held)


def _held_out(scorer: TextScorer, rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    import numpy as np

    from usersim.fidelity.auc import auc

    scores = np.array(scorer.scores([text for text, _ in rows]))
    is_good = np.array([name == GOOD for _, name in rows])
    value = auc(scores, is_good, np.zeros(len(rows), dtype=np.int64))
    below = {
        f"{limit:.2f}": {
            name: round(float((scores[is_good == (name == GOOD)] < limit).mean()), 4)
            for name in (GOOD, BAD)
        }
        for limit in (0.01, 0.05, 0.1, 0.25, 0.5)
    }
    rounded = None if value is None else round(value, 4)
    return {"held_out": len(rows), "auc": rounded, "thresholds": below}


def _distinct(texts: Iterable[str]) -> list[str]:
    """Different texts, in an order that means nothing."""
    return sorted({text for text in texts if text.strip()}, key=stable_hash)


def _line(text: str) -> str:
    """A text on one line, with nothing in it that would be read as a label."""
    line = " ".join(text[:CHARACTERS].replace(LABEL, " ").split())
    return line.encode("utf-8", "replace").decode()
