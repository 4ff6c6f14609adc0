"""Held-out likelihood: known answers from a model that knows nothing."""

import math

import pytest
import torch

from usersim.perplexity import (
    TargetScore,
    mean_nll,
    nll_difference,
    perplexity_table,
    score_rows,
)
from usersim.rows import IGNORED, Row, Target

VOCABULARY = 50


class Uniform(torch.nn.Module):
    """Gives every token the same probability, and remembers how many positions it was asked for."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.asked = []

    def forward(self, input_ids, logits_to_keep):
        self.asked.append(len(logits_to_keep))

        class Output:
            logits = torch.zeros(1, len(logits_to_keep), VOCABULARY)

        return Output()


def row(name, num_tokens, targets):
    ids = list(range(num_tokens))
    labels = [IGNORED] * num_tokens
    for t in targets:
        labels[t.start : t.stop] = ids[t.start : t.stop]
    return Row(name, ids, labels, targets)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    rows = [row("a", 20, [Target(0, 2, 6), Target(2, 10, 15)]), row("b", 9, [Target(0, 3, 8)])]
    model = Uniform()
    table = perplexity_table(score_rows(model, rows, end_id=0, title="test"))
    assert table["all"] == table["first"] == table["later"] == pytest.approx(VOCABULARY, abs=0.01)
    assert model.asked == [9, 5], "logits are computed at labelled positions only"


def test_every_target_is_scored_once_with_its_tokens():
    rows = [row("a", 20, [Target(0, 2, 6), Target(2, 10, 11, is_end=True)])]
    scores = score_rows(Uniform(), rows, end_id=0, title="test")
    assert [(s.turn, s.tokens, s.is_end) for s in scores] == [(0, 4, False), (2, 1, True)]
    assert scores[0].nll == pytest.approx(4 * math.log(VOCABULARY))
    assert scores[1].end_probability == pytest.approx(1 / VOCABULARY)


def score(conversation, nll, tokens=10, turn=0, end=0.1, is_end=False):
    return TargetScore(conversation, turn, nll, tokens, end, is_end)


def test_a_paired_difference_is_tighter_than_the_two_means():
    before = [score(str(i), 10.0 * i) for i in range(1, 30)]
    after = [score(str(i), 10.0 * i - 1) for i in range(1, 30)]
    difference = nll_difference(before, after)
    assert difference.mean == pytest.approx(-0.1)
    assert difference.low == pytest.approx(difference.high)
    assert mean_nll(before).high - mean_nll(before).low > 1


def test_decisions_to_leave_do_not_count_as_turns():
    scores = [score("a", 20.0), score("a", 5.0, tokens=1, turn=2, is_end=True)]
    assert mean_nll(scores).mean == pytest.approx(2.0)
