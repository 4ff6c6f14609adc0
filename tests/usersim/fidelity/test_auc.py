import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.fidelity.auc import auc, weighted_auc

ONE_FOLD = np.zeros(6, dtype=int)
POSITIVE = np.array([True, True, True, False, False, False])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([4, 5, 6, 1, 2, 3], 1.0),
        ([1, 2, 3, 4, 5, 6], 0.0),
        ([7, 7, 7, 7, 7, 7], 0.5),
        ([1, 2, 3, 1, 2, 3], 0.5),
        ([2, 2, 2, 1, 2, 3], 0.5),
        ([3, 3, 3, 1, 2, 3], (3 + 3 + 3 * 0.5) / 9),
    ],
)
def test_auc_of_known_orders(scores, expected):
    assert auc(np.array(scores, dtype=float), POSITIVE, ONE_FOLD) == pytest.approx(expected)


def test_scores_of_different_folds_are_never_compared():
    """Each fold tells perfectly, at another level: pooled, that would look like 0.75."""
    scores = np.array([1.0, 11.0, 0.0, 10.0])
    positive = np.array([True, True, False, False])
    assert auc(scores, positive, np.array([0, 1, 0, 1])) == 1.0
    assert auc(scores, positive, np.zeros(4, dtype=int)) == 0.75


def test_one_side_alone_has_no_auc():
    assert auc(np.array([1.0, 2.0]), np.array([True, True]), np.zeros(2, dtype=int)) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 1), st.integers(0, 3)),
        min_size=1,
        max_size=30,
    )
)
def test_a_weight_is_a_number_of_copies(rows):
    """Compared with the definition: every pair of a fold, copies written out."""
    scores, positive, fold, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = weighted_auc(
        scores.astype(float), positive.astype(bool), fold, weight[None, :].astype(float)
    )[0]
    wins = pairs = 0.0
    for s, p, f, w in rows:
        for t, q, g, v in rows:
            if p and not q and f == g:
                wins += w * v * ((s > t) + 0.5 * (s == t))
                pairs += w * v
    assert found == pytest.approx(wins / pairs) if pairs else np.isnan(found)
