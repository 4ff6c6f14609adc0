"""Which of several turns is taken: by the odds, whatever else; and what is kept of it on disk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.errors import InputError
from usersim.fidelity.classifiers import LinearModel
from usersim.likeness import Likeness, noticed

PEOPLE = [f"fix the {n}th bug in my parser, it crashes" for n in range(60)]
MODEL = [f"Can you tell me how to fix bug number {n}?" for n in range(60)]
TEXTS = ["make it shorter pls", "Can you tell me more about it?", "ok now in python", "Why?"]


@pytest.fixture(scope="module")
def likeness():
    is_people = np.arange(120) < 60
    model = LinearModel.fit(noticed(PEOPLE + MODEL), is_people)
    return Likeness(model, model)


def odds(likeness, texts):
    return np.exp(likeness.first.log_odds(noticed(texts)))


def test_what_reads_like_people_is_likelier_taken(likeness):
    person, model = odds(likeness, ["fix the typo in my parser", "Can you tell me how to fix it?"])
    assert person > 1 > model


def test_a_text_is_taken_in_proportion_to_its_odds(likeness):
    weights = odds(likeness, TEXTS)
    taken = [likeness.ranked(TEXTS, opens=True, seed=seed)[0] for seed in range(1500)]
    shares = np.bincount(taken, minlength=len(TEXTS)) / len(taken)
    # Three standard errors of 1,500 draws.
    assert np.abs(shares - weights / weights.sum()).max() < 3 * 0.5 / np.sqrt(1500)


@given(st.lists(st.text(), max_size=6), st.integers(0, 2**31 - 1), st.booleans())
def test_every_text_has_a_place_and_the_same_seed_the_same_order(likeness, texts, seed, opens):
    order = likeness.ranked(texts, opens, seed)
    assert sorted(order) == list(range(len(texts)))
    assert order == likeness.ranked(texts, opens, seed)


def test_what_is_read_back_ranks_as_before(likeness, tmp_path):
    likeness.write(tmp_path / "likeness.npz")
    again = Likeness.read(tmp_path / "likeness.npz")
    assert odds(again, TEXTS) == pytest.approx(odds(likeness, TEXTS), rel=1e-4)
    for seed in range(20):
        assert again.ranked(TEXTS, False, seed) == likeness.ranked(TEXTS, False, seed)


def of_other_sizes(path):
    names = ("words", "pieces", "scale", "weights", "intercept")
    arrays = {f"{part}_{name}": np.zeros(3) for part in ("first", "later") for name in names}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def pickled(path):
    with path.open("wb") as file:
        np.savez(file, first_words=np.array([{"not": "an array"}], dtype=object))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 broken off"),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        pickled,
        of_other_sizes,
    ],
)
def test_what_is_no_likeness_is_refused_with_what_to_do(make, tmp_path):
    path = tmp_path / "likeness.npz"
    make(path)
    with pytest.raises(InputError, match="realchat learn-likeness"):
        Likeness.read(path)


def test_habits_are_as_frequent_among_weighed_turns_as_among_people():
    """What no n-gram shows: the model always writes one line of middling length."""
    people = [" ".join(["word"] * (2 if n % 3 else 40)) for n in range(90)]
    model = [" ".join(["word"] * (2 if n % 10 == 0 else 40)) for n in range(90)]
    learned = LinearModel.fit(noticed([*people, *model]), np.arange(180) < 90)
    weights = np.exp(learned.log_odds(noticed(model)))
    short = np.array([len(text.split()) == 2 for text in model])
    assert weights[short].sum() / weights.sum() == pytest.approx(60 / 90, abs=0.03)


def test_who_sees_no_difference_takes_any_text(tmp_path):
    Likeness.blind().write(tmp_path / "blind.npz")
    blind = Likeness.read(tmp_path / "blind.npz")
    taken = [blind.ranked(TEXTS[:3], opens=True, seed=seed)[0] for seed in range(600)]
    assert all(160 < taken.count(place) < 240 for place in range(3))
