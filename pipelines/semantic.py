"""Conversations whose user says the same in other words: cosine similarity of static embeddings.

Optional, behind the extra `semantic`, and off by default: a static embedding is the mean of its
words' vectors, which knows what is spoken of better than what is said of it. Every pair is compared
(block by block, so that memory holds two blocks of vectors), nothing is estimated, and a pair's
similarity is computed again in double precision: it does not depend on how rows lie in blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipelines.spread import Spread
from usersim.errors import InputError, WorldError
from usersim.neardup import Alike
from usersim.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.near import Loadable

EMBEDDING = "embedding"
"""What the matrix of vectors is called among a part's matrices."""
BLOCK = 2048  # rows: two blocks of 256 numbers and their products take 20 MB
MOST = 1000  # better rows that one row is paired with, the best ones: bounds what clusters take
_SLACK = 1e-4  # single precision is surer than this; what it proposes is computed again
_WORDLLAMA = ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json")


class SemanticSettings(Settings):
    """When two conversations mean the same."""

    model: str = Field(
        "",
        description="`wordllama` (its package brings one), or folder or Hub name of a model2vec"
        " model; empty: nothing is compared",
    )
    unit: Literal["opener", "user_side"] = Field(
        "user_side", description="what is compared; answers alone make no two conversations alike"
    )
    threshold: float = Field(0.95, gt=0, le=1, description="cosine from which two are the same")


def embed(texts: Sequence[str], model: str) -> "NDArray[np.float32]":
    """Vectors of length one, a row a text; zeros for a text without a known word.

    Raises WorldError without the extra, InputError for a model that is none.
    """
    import numpy as np

    static = _static_model(model)
    if not texts:
        return np.zeros((0, static.dim), dtype=np.float32)
    found = static.encode(list(texts), max_length=None, normalize=False, use_multiprocessing=False)
    vectors = found.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.where(lengths, lengths, 1)).astype(np.float32)
    return scaled


@lru_cache(maxsize=1)
def _static_model(name: str) -> Any:
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise WorldError(
            "curate.dedup.semantic: model2vec is not installed: pip install 'realchat[semantic]'"
        ) from error
    if name == "wordllama":
        return _wordllama(StaticModel)
    try:
        return StaticModel.from_pretrained(name, force_download=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"curate.dedup.semantic.model: {name} is no model2vec model: {error}"
        ) from error


def _wordllama(static_model: Any) -> Any:
    """The vectors in wordllama's package (256 numbers for each of Llama 2's tokens)."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise WorldError(
            "curate.dedup.semantic: wordllama is not installed: pip install 'realchat[semantic]'"
        )
    weights, words = (Path(spec.submodule_search_locations[0]) / name for name in _WORDLLAMA)
    tokenizer = Tokenizer.from_file(str(words))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return static_model(load_file(weights)["embedding.weight"].astype("float32"), tokenizer)


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows from `start` on, to be compared with all that rank before them and with each other."""

    parts: "Sequence[Loadable]"
    threshold: float
    places: "NDArray[np.int64]"
    start: int

    def pairs(self) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """Pairs of positions in `places`, the better one first, and their cosines."""
        import numpy as np

        own = self._vectors(self.start)
        room = np.full(len(own), MOST)
        pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0)]
        for first in range(0, self.start + 1, BLOCK):
            others = own if first == self.start else self._vectors(first)
            row, other = np.nonzero(own @ others.T >= self.threshold - _SLACK)
            better = (first + other < self.start + row) & (_nth(row) < room[row])
            row, other = row[better], other[better]
            exact = _cosines(own[row], others[other])
            reached = np.round(exact, 9) >= self.threshold
            room -= np.bincount(row[reached], minlength=len(room))
            pairs.append(np.column_stack([first + other, self.start + row])[reached])
            scores.append(np.minimum(exact[reached], 1.0))
        return np.concatenate(pairs), np.concatenate(scores)

    def _vectors(self, start: int) -> "NDArray[np.float32]":
        """The vectors of a block of rows, wherever their parts hold them."""
        import numpy as np

        places = self.places[start : start + BLOCK]
        order = np.argsort(places)
        held = [np.asarray(m) for m in self._held(places[order])]
        found = np.empty((len(places), held[0].shape[1]), dtype=np.float32)
        found[order] = np.concatenate(held)
        return found

    def _held(self, places: "NDArray[np.int64]") -> "Iterator[NDArray[np.float32]]":
        from pipelines.near import parts_at

        for part, rows in parts_at(self.parts, places):
            matrix: Any = part.matrix(EMBEDDING)
            yield matrix[rows]


def _cosines(left: "NDArray[np.float32]", right: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Row by row, in double precision; 0 where a vector is zero."""
    import numpy as np

    pairs = left.astype(np.float64), right.astype(np.float64)
    dot, one, two = (np.einsum("ij,ij->i", a, b) for a, b in (pairs, pairs[:1] * 2, pairs[1:] * 2))
    lengths = np.sqrt(one * two)
    found: NDArray[np.float64] = dot / np.where(lengths, lengths, 1.0)
    return found


def _nth(rows: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """Of sorted numbers, how many equal ones stand before each."""
    import numpy as np

    first = np.searchsorted(rows, rows, side="left")
    found: NDArray[np.int64] = np.arange(len(rows)) - first
    return found


def semantic_pairs(
    parts: "Sequence[Loadable]", threshold: float, places: "NDArray[np.int64]", spread: Spread
) -> Alike:
    """Pairs of positions in `places` (rows in the ranks' order) whose cosine reaches `threshold`.

    A place is a row's number when the parts are laid end to end. All pairs are compared, so the
    time grows with the square of the rows; of the better rows that one is like, the first MOST.
    """
    import numpy as np

    starts = range(0, len(places), BLOCK)
    blocks = [_Block(parts, threshold, places, start) for start in starts]
    pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for some, how_much in spread(_Block.pairs, blocks):
        pairs.append(some)
        scores.append(how_much)
    return Alike(np.concatenate(pairs), np.concatenate(scores))
