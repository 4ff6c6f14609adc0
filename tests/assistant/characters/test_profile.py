"""Profiles: markdown and wiki text become numbered paragraphs; nothing of the story is lost."""

import pytest

from assistant.characters.profile import Profile, find_profile, known_lives, parse, sentences
from assistant.characters.voice import first_person
from usersim.errors import InputError

WIKI = """'''Nell Ashdown''' was a
[[bell-founder|founder of bells]] in {{town|{{x}}}} Marle.<ref>A book</ref>

== Work ==
She cast forty bells.[1] <!-- check --> St. Anne's was ''the largest'' of them.

[[File:bell.jpg|thumb|A [[bell]]]]
Short one.
"""


def test_wiki_text_becomes_plain_paragraphs_with_ids_and_sections():
    name, paragraphs, skipped = parse("# Nell Ashdown\n\n" + WIKI)
    assert name == "Nell Ashdown"
    assert [(p.id, p.section) for p in paragraphs] == [("p01", ""), ("p02", "Work")]
    assert paragraphs[0].text == "Nell Ashdown was a founder of bells in Marle."
    assert paragraphs[1].sentences == [
        "She cast forty bells.",
        "St. Anne's was the largest of them.",
    ]
    assert skipped == ("Short one.",)


def test_markdown_marks_go_and_words_stay():
    _, paragraphs, _ = parse(
        "# A\n\n- A *very* [old](http://x.y) list item here\n- and **another** one_two\n"
    )
    assert paragraphs[0].text == "A very old list item here and another one_two"


def test_sentences_joined_are_the_paragraph():
    for life in known_lives():
        for paragraph in find_profile(life).paragraphs:
            assert " ".join(sentences(paragraph.text)) == paragraph.text


def test_a_quotation_keeps_its_closing_mark():
    text = 'He said "Go home." Then he left. \u201cNo!\u201d She stayed. Why? Nobody knew.'
    assert sentences(text) == [
        'He said "Go home."', "Then he left.", "\u201cNo!\u201d", "She stayed.", "Why?",
        "Nobody knew.",
    ]  # fmt: skip


def test_a_person_of_a_file_is_asked_for_by_a_number(tmp_path):
    (tmp_path / "us.yaml").write_text(
        "- {career: baker, aspiration: rest, traits: [calm], skills: [bread]}\n" * 2
    )
    with pytest.raises(InputError, match="#second` is no number"):
        find_profile(f"{tmp_path}/us.yaml#second")
    with pytest.raises(InputError, match="no number 3"):
        find_profile(f"{tmp_path}/us.yaml#3")


@pytest.mark.parametrize("life", known_lives())
def test_every_shipped_life_is_whole(life):
    profile = find_profile(life)
    assert len(profile.paragraphs) >= 12
    assert profile.skipped == ()
    assert profile.about.trade
    assert len(profile.about.strangers) >= 4
    assert profile.last_year < 2000
    assert len({probe.paragraph for probe in profile.probes}) >= 12


@pytest.mark.parametrize("life", known_lives())
def test_probe_statements_are_in_other_words_than_the_story(life):
    """No true statement stands in the story, and a false one is as long as its true one."""
    profile = find_profile(life)
    told = " ".join(first_person(p.text, profile) for p in profile.paragraphs).casefold()
    for probe in profile.probes:
        assert probe.true.rstrip(".").casefold() not in told
        assert abs(len(probe.true.split()) - len(probe.false.split())) <= 2


def test_a_story_can_be_alone_and_a_wrong_description_is_refused(tmp_path):
    story = tmp_path / "nell-ashdown.md"
    story.write_text("He was a founder of bells.\n\nHe died in 1702 in Marle.")
    profile = Profile.read(story)
    assert (profile.name, profile.pronoun, profile.last_year) == ("Nell Ashdown", "he", 1702)
    story.with_suffix(".yaml").write_text("trad: x")
    with pytest.raises(InputError, match="trad"):
        Profile.read(story)
    story.with_suffix(".yaml").write_text("probes: [[p09, a, b, c]]")
    with pytest.raises(InputError, match="no paragraph p09"):
        Profile.read(story)


def test_what_is_no_profile_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither a file"):
        find_profile(tmp_path / "nobody.md")
    (tmp_path / "empty.md").write_text("# Nobody\n")
    with pytest.raises(InputError, match="no paragraph"):
        find_profile(tmp_path / "empty.md")
