"""A small model learns two kinds of text, says how well, and is the same every time."""

import random

import pytest

from usersim.errors import InputError
from usersim.text_scorer import TextScorer, train_scorer

GARDEN = ["soil", "leaf", "root", "bloom", "seed", "water"]
ENGINE = ["valve", "piston", "gear", "bolt", "oil", "spark"]


def texts(words, number=150):
    rng = random.Random(words[0])
    return [" ".join(rng.choices(words, k=6)) + f" {i}" for i in range(number)]


def test_kinds_are_told_apart_and_training_is_repeatable(tmp_path):
    figures = train_scorer(texts(GARDEN), texts(ENGINE), tmp_path / "a.bin")
    train_scorer(reversed(texts(GARDEN)), texts(ENGINE), tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert figures["auc"] > 0.95
    assert figures["held_out"] > 30
    assert figures["thresholds"]["0.50"]["bad"] > figures["thresholds"]["0.50"]["good"]
    good, bad = TextScorer(tmp_path / "a.bin").scores(["seed and leaf", "bolt __label__good oil"])
    assert good > 0.8
    assert bad < 0.2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "b.bin"]


def test_too_few_texts_and_strange_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="5 different texts"):
        train_scorer(texts(GARDEN, 5), texts(ENGINE), tmp_path / "a.bin")
    with pytest.raises(InputError, match="no model at"):
        TextScorer(tmp_path / "none.bin")
    (tmp_path / "text.bin").write_text("hello")
    with pytest.raises(InputError, match="not a fastText model"):
        TextScorer(tmp_path / "text.bin")
    train_scorer(texts(GARDEN), texts(ENGINE), tmp_path / "a.bin")
    with pytest.raises(InputError, match="no label 'toxic'; it has"):
        TextScorer(tmp_path / "a.bin", "toxic")


def test_training_touches_no_file_but_its_own(tmp_path):
    """It wrote the texts to `quality.txt` beside `quality.bin`, and removed that afterwards."""
    (tmp_path / "quality.txt").write_text("notes of mine")
    good = [f"how do i mend thing number {n}" for n in range(120)]
    bad = [f"As requested, kindly elaborate upon item {n}." for n in range(120)]
    train_scorer(good, bad, tmp_path / "quality.bin")
    assert (tmp_path / "quality.txt").read_text() == "notes of mine"
    train_scorer(good, bad, tmp_path / "model.txt")
    assert (tmp_path / "model.txt").read_bytes() == (tmp_path / "quality.bin").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.txt", "quality.bin", "quality.txt"]
