"""The compiled visit of rows, best first: each goes for a kept one that it is alike to, or stays.

Loaded inside functions, because numba takes a second.
"""

from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253 - this module itself is loaded inside functions

from usersim.shingle_kernel import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def visit(
    groups: "NDArray[np.int32]",
    allowed: "NDArray[np.int32]",
    stays: "NDArray[np.bool_]",
    near: Any,
    told: Any,
) -> None:
    """Decide over rows in the order of their ranks.

    `groups[t, row]` is the first row that test `t` takes for the same as this one, `allowed[t,
    row]` how many of those may be kept. `near` are the other rows that a group is alike to:
    `starts[t, group]` to `starts[t, group + 1]` of (`others`, `scores`). What `stays` is never
    dropped. Into `told` (tests, matches, scores) goes of each dropped row the first test that found
    a kept one, which one (the first of the same, else the most similar, between equals the best),
    and how similar; -1 as the test of one that is kept.
    """
    starts, others, scores = near
    tests, matches, similarities = told
    kept = np.full(groups.shape, -1, np.int32)
    count = np.zeros(groups.shape, np.int32)
    for row in range(groups.shape[1]):
        tests[row] = -1
        for test in range(groups.shape[0]):
            group = groups[test, row]
            match, best = -1, 0.0
            if count[test, group] >= allowed[test, row]:
                match, best = kept[test, group], 1.0
            else:
                for place in range(starts[test, group], starts[test, group + 1]):
                    other, score = kept[test, others[place]], scores[place]
                    nearer = score > best or (score == best and other < match)
                    if other >= 0 and (match < 0 or nearer):
                        match, best = other, score
            if match >= 0:
                tests[row], matches[row], similarities[row] = test, match, best
                break
        if tests[row] >= 0 and not stays[row]:
            continue
        tests[row] = -1
        for test in range(groups.shape[0]):
            group = groups[test, row]
            if kept[test, group] < 0:
                kept[test, group] = row
            count[test, group] += 1
