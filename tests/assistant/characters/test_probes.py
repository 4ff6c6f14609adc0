"""Probes: what is asked, what a prompted model is told, and intervals with known answers."""

import pytest

from assistant.characters.probes import Margin, change, figures, pairs_of, prompted
from assistant.characters.profile import find_profile, known_lives
from usersim.perplexity import interval


@pytest.mark.parametrize("life", known_lives())
def test_a_character_is_probed_on_facts_and_on_all_four_boundaries(life):
    pairs = pairs_of(find_profile(life))
    kinds = {p.kind for p in pairs}
    assert kinds == {"fact", "anachronism", "false_relation", "identity_attack", "machine"}
    assert not [p for p in pairs if p.right == p.wrong]


def test_what_a_prompted_model_is_told():
    profile = find_profile("tamsin-orrow")
    assert profile.paragraphs[0].text in prompted(profile)
    assert profile.paragraphs[1].text not in prompted(profile)
    assert all(p.text in prompted(profile, whole=True) for p in profile.paragraphs)


def test_figures_by_kind_and_paired_changes():
    before = [Margin("fact", str(n), -0.1 + 0.2 * (n % 2)) for n in range(20)]
    before += [Margin("machine", f"m{n}", -1.0) for n in range(4)]
    after = [Margin(m.kind, m.ask, m.nats + 0.5) for m in before]
    found = figures(before)
    assert found["fact"]["right"]["mean"] == 0.5
    assert found["boundary"] == found["machine"]
    moved = change(before, after)
    assert moved["fact"]["margin"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert moved["fact"]["right"]["mean"] == 0.5
    assert moved["machine"]["right"]["mean"] == 0.0


def test_an_interval_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        interval([])
    assert interval([1.0, 2.0, 3.0]).mean == 2.0
