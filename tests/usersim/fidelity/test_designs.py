import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_talks import talks

from usersim import surface
from usersim.fidelity.designs import (
    Compared,
    Design,
    jensen_shannon,
    relative_error,
    sums_of,
    wasserstein,
)
from usersim.fidelity.intervals import person_draws, weighted_medians
from usersim.fidelity.persons import persons_of

counts = st.lists(st.integers(0, 9), min_size=1, max_size=40)


@given(counts, counts)
def test_distances_of_histograms_are_those_of_the_samples(left, right):
    """The same two distances as `usersim.surface` computes from samples, all rows at once."""
    bins = np.zeros((2, 10))
    for row, sample in enumerate((left, right)):
        np.add.at(bins[row], sample, 1)
    expected = surface.wasserstein(left, right)
    assert wasserstein(bins[:1], bins[1:])[0, 0] == pytest.approx(expected)
    shares = [{k: bins[r, k] / bins[r].sum() for k in range(10)} for r in (0, 1)]
    expected = surface.jensen_shannon(*shares)
    assert jensen_shannon(bins[:1], bins[1:])[0, 0] == pytest.approx(expected, abs=1e-9)


def test_an_empty_side_has_no_distance():
    some, none = np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])
    assert np.isnan(jensen_shannon(some, none)[0, 0])
    assert np.isnan(wasserstein(some, none)[0, 0])
    assert np.isnan(relative_error(some, none)).all()


def test_floors_have_as_many_persons_a_side_as_what_is_held_against_them():
    simulated, real = persons_of(talks("s", 7, 1)), persons_of(talks("r", 30, 2))
    design = Design.of(simulated, real, splits=4)
    assert design.size == 7
    for weights in (design.simulated_part, design.left, design.right):
        assert (weights.sum(axis=1) == 7).all()
    assert not (design.left * design.right).any()  # nobody is in both halves


def mean_of(values):
    """A summary: the weighted mean of one value a person."""
    table = np.array(values, dtype=float)[:, None]
    return lambda weights: (weights @ table) / weights.sum(axis=1, keepdims=True)


def test_a_known_difference_comes_out_with_an_interval_that_holds_it():
    generator = np.random.default_rng(0)
    real, simulated = generator.normal(10, 1, 200), generator.normal(12, 1, 200)
    sides = persons_of(talks("s", 200, 1, turns=1)), persons_of(talks("r", 200, 2, turns=1))
    found = Compared.of(Design.of(*sides), mean_of(simulated), mean_of(real), relative_error)
    figure = found.figure(0, signed=True)
    assert figure["low"] < 0.2 < figure["high"]
    assert figure["high"] - figure["low"] < 0.1
    assert figure["floor"] < 0.03 < figure["value_at_floor_size"]
    assert figure["within"] is False


def test_who_is_drawn_from_the_same_people_is_within_their_floor():
    values = np.random.default_rng(0).normal(10, 3, 400)
    sides = persons_of(talks("s", 200, 1, turns=1)), persons_of(talks("r", 200, 2, turns=1))
    found = Compared.of(
        Design.of(*sides), mean_of(values[:200]), mean_of(values[200:]), np.subtract
    )
    assert found.figure(0, signed=True)["within"] is True


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_weighted_medians_are_medians_of_the_copies(rows, seed):
    values, person = (np.array(column) for column in zip(*rows, strict=True))
    draws = person_draws(5, 3, seed)
    found = weighted_medians(draws, values.astype(float), person)
    for row, weights in zip(found, draws, strict=True):
        copies = np.repeat(values, weights[person].astype(int))
        if len(copies):
            assert row == np.quantile(copies, 0.5, method="inverted_cdf")
        else:
            assert np.isnan(row)


def test_sums_are_by_person():
    assert sums_of(3, [0, 2, 0], [[1, 10], [2, 20], [3, 30]]).tolist() == [[4, 40], [0, 0], [2, 20]]


def test_the_interval_of_a_small_distance_holds_its_value():
    """Draws of two samples of one kind are farther apart than the samples are."""
    generator = np.random.default_rng(1)
    for _ in range(5):
        sides = [np.eye(8)[generator.geometric(0.35, 300).clip(1, 8) - 1] for _ in range(2)]
        people = persons_of(talks("s", 300, 1, turns=1)), persons_of(talks("r", 300, 2, turns=1))
        summaries = [lambda weights, rows=rows: weights @ rows for rows in sides]
        found = Compared.of(Design.of(*people), *summaries, jensen_shannon)
        figure = found.settled().figure(0)
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"]
        raw = found.figure(0)
        assert figure["high"] < raw["high"], "no further up than the draws went"
