"""Evidence comes from the whole story, not from its beginning (DC7)."""

import pytest

from assistant.characters.evidence import evidence
from assistant.characters.profile import find_profile, known_lives


@pytest.mark.parametrize("life", known_lives())
def test_every_paragraph_can_be_found_by_its_own_words(life):
    profile = find_profile(life)
    for paragraph in profile.paragraphs:
        assert evidence(profile, paragraph.sentences[-1], 3)[0].id == paragraph.id


def test_true_statements_find_their_paragraph_among_four():
    found = total = 0
    for life in known_lives():
        profile = find_profile(life)
        for probe in profile.probes:
            total += 1
            found += probe.paragraph in {
                p.id for p in evidence(profile, f"{probe.ask} {probe.true}")
            }
    assert found / total > 0.95  # 109 of 111, though they are in other words than the story


def test_words_that_stand_nowhere_leave_the_first_paragraph():
    profile = find_profile("joram-pell")
    assert evidence(profile, "xylophone zeppelin") == [profile.paragraphs[0]]
    assert len(evidence(profile, profile.text, 5)) == 5
