"""The compiled part of `nucleus`: one token a row, from the nucleus of its logits.

A row is scanned for the tokens within some nats of its best one, which nearly always hold the mass
that is asked for; else the window is widened, up to the whole vocabulary. The nucleus' edge is
found by a histogram of them, and only the tokens at the edge are sorted. So a row costs little more
than one pass over its logits, and its nucleus is the exact one.

Loaded by `nucleus` in an engine's process; numba compiles it there, once for all engines.
"""

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 - this module itself is loaded in an engine's process only

from usersim.shingle_kernel import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOWS = (10.0, 20.0, np.inf)
"""How far below the best token to look, in nats: e^-10 of its probability is mostly enough."""
BINS, BINS_PER_NAT = 1024, 50
"""The histogram of a row; what lies further below shares the last bin."""
CHUNK = 64
ROUNDED = 1e-3
"""Where less than this is left beside the ends, it is summed up: a difference would be rounding."""


@compiled
def draw_rows(
    scaled: "NDArray[np.float32]",
    best: "NDArray[np.float32]",
    normaliser: "NDArray[np.float64]",
    top_p: "NDArray[np.float64]",
    uniform: "NDArray[np.float64]",
    ends: "NDArray[np.int64]",
) -> "NDArray[np.int64]":
    """One token id a row of `scaled` (rows, vocabulary): logits over their temperatures.

    `best` and `normaliser` are each row's maximum and log-sum-exp. `ends` (rows, most ends) are
    tokens drawn outside the nucleus, padded with -1; `uniform` the number in [0, 1) that decides.
    """
    drawn = np.zeros(scaled.shape[0], dtype=np.int64)
    tokens = np.empty(scaled.shape[1], dtype=np.int64)
    for row in range(scaled.shape[0]):
        end, own = _end(scaled[row], normaliser[row], uniform[row], ends[row])
        drawn[row] = end
        if uniform[row] >= own:
            # Never 1 and above, even where rounding leaves nothing but ends.
            number = min((uniform[row] - own) / max(1.0 - own, 1e-12), 1.0 - 1e-12)
            top = (scaled[row], best[row], normaliser[row])
            token = _from_nucleus(top, top_p[row], number, 1.0 - own, ends[row], tokens)
            drawn[row] = token if token >= 0 else end
    return drawn


@compiled
def _end(
    logits: "NDArray[np.float32]", normaliser: float, number: float, ends: "NDArray[np.int64]"
) -> tuple[int, float]:
    """The end that the number falls on, or the last one, and the mass of ends up to it."""
    own, found = 0.0, np.int64(0)
    for end in ends:
        if end >= 0:
            found = end
            own += np.exp(logits[end] - normaliser)
            if number < own:
                break
    return int(found), own


@compiled
def _from_nucleus(
    row: "tuple[NDArray[np.float32], float, float]",
    top_p: float,
    number: float,
    left: float,
    ends: "NDArray[np.int64]",
    tokens: "NDArray[np.int64]",
) -> int:
    """The token that `number` falls on, of those that are no ends; -1 where there is none."""
    logits, best, normaliser = row
    if left < ROUNDED:
        count = _within(logits, -np.inf, ends, tokens)
        left = _masses(logits, normaliser, tokens[:count]).sum()
    count, masses = 0, np.empty(0, dtype=np.float64)
    for window in WINDOWS:
        count = _within(logits, best - window, ends, tokens)
        masses = _masses(logits, normaliser, tokens[:count])
        if masses.sum() >= left * min(top_p, 1.0 - 1e-9):
            break
    if count == 0:
        return -1
    inside = _cut(logits[tokens[:count]], best, masses, left * top_p)
    aimed = number * inside
    for place in range(count):
        aimed -= masses[place]
        if aimed < 0.0:
            return int(tokens[place])
    return int(tokens[np.argmax(masses)])


@compiled
def _within(
    logits: "NDArray[np.float32]",
    floor: float,
    ends: "NDArray[np.int64]",
    tokens: "NDArray[np.int64]",
) -> int:
    """How many possible tokens that are no ends reach the floor; they are put into `tokens`."""
    count, size, floor32 = 0, logits.shape[0], np.float32(floor)
    for start in range(0, size, CHUNK):
        stop, reach = min(start + CHUNK, size), 0
        for token in range(start, stop):  # without a branch: many at once
            reach += logits[token] >= floor32
        if reach == 0:
            continue
        for token in range(start, stop):
            if logits[token] >= floor32 and logits[token] > -np.inf:
                tokens[count] = token
                count += 1
                for end in ends:
                    count -= end == token
    return count


@compiled
def _masses(
    logits: "NDArray[np.float32]", normaliser: float, tokens: "NDArray[np.int64]"
) -> "NDArray[np.float64]":
    masses = np.empty(tokens.shape[0], dtype=np.float64)
    for place in range(tokens.shape[0]):
        masses[place] = np.exp(logits[tokens[place]] - normaliser)
    return masses


@compiled
def _cut(
    logits: "NDArray[np.float32]", best: float, masses: "NDArray[np.float64]", need: float
) -> float:
    """Set to zero what is not in the smallest set of likeliest tokens that holds `need`.

    Returns what that set holds.
    """
    bins = np.minimum((best - logits) * BINS_PER_NAT, BINS - 1).astype(np.int64)
    histogram = np.zeros(BINS, dtype=np.float64)
    for place in range(bins.shape[0]):
        histogram[bins[place]] += masses[place]
    edge, above = 0, 0.0
    while edge < BINS - 1 and above + histogram[edge] < need:
        above += histogram[edge]
        edge += 1
    masses[bins > edge] = 0.0
    at_edge = np.nonzero(bins == edge)[0]
    for place in at_edge[np.argsort(-masses[at_edge])]:
        if above >= need:
            masses[place] = 0.0
        above += masses[place]
    return above
