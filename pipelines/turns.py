"""A first look at every turn of a conversation, compiled: which of them need the plain rules' look?

The plain rules (`pipelines.repetition`) decide; this only spares them nearly all turns. It never
spares a turn that they would stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from usersim.conversation import Message
from usersim.shingling import Shingling

Limits = tuple[int, int, float, int]
"""Words of a loop; words from which 6-word runs count, and their highest duplicate share; words
from which shorter turns are looked at."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one turn shows at first sight."""

    num_words: int
    content: int
    """Equal for the same words in the same order (but for one pair in 2^64)."""
    may_loop: bool
    may_repeat: bool


@lru_cache(maxsize=4)  # several rules ask of the same conversation, one after the other
def looks_of(turns: Sequence[Message], limits: Limits) -> list[Look]:
    """A look at each turn."""
    import numpy as np

    from pipelines.repetition_kernel import look

    texts = [turn.content for turn in turns]
    values, bounds = Shingling(1).runs(texts)
    rows = np.empty((len(texts), 4), dtype=np.int64)
    look(values, bounds, np.array(limits, dtype=np.float64), rows)
    return [
        Look(words, content, bool(loop), bool(repeat))
        for words, content, loop, repeat in rows.tolist()
    ]
