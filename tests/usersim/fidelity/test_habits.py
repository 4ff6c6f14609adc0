import pytest
from made_talks import talk, talks

from usersim.fidelity.habits import habit_figures, is_misspelt
from usersim.fidelity.persons import persons_of
from usersim.surface import turn_statistics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("can you corect this sentense", True),
        ("dont do that", True),
        ("can you correct this sentence", False),
        ("Ask Jonh about it", False),  # names are no slips
        ("use https://exmaple.org and my_varaible or foo.lenght", False),  # nor is code
        ("```\nthsi is code\n``` as it is", False),
        ("api css teh", False),  # too short to tell
    ],
)
def test_slips_of_the_pen(text, expected):
    assert is_misspelt(text) is expected


def planted(prefix, polite):
    """Twenty persons; the first `polite` of them say please in their opener."""
    return [
        talk(f"{prefix}{n}", "please help me" if n < polite else "so help me then", "ok?", "ok.")
        for n in range(20)
    ]


def test_relative_errors_are_as_planted():
    found = habit_figures(persons_of(planted("s", 5)), persons_of(planted("r", 10)))
    row = found["groups"]["first"]["statistics"]["please"]
    assert (row["real"], row["simulated"], row["error"]["value"]) == (0.5, 0.25, -0.5)
    assert row["error"]["low"] < -0.5 < row["error"]["high"]
    later = found["groups"]["later"]["statistics"]
    assert later["question_mark"]["error"]["value"] == 0.0
    assert later["question_mark"]["real"] == 0.5
    assert found["worst"][0]["statistic"] == "please"


def test_turns_are_grouped_by_their_number_up_to_the_cap():
    found = habit_figures(
        persons_of(talks("s", 10, 1, turns=2)), persons_of(talks("r", 10, 2, turns=7)), max_turns=6
    )
    turns = {group: table["turns"] for group, table in found["groups"].items()}
    assert turns["first"] == {"real": 10, "simulated": 10}
    assert turns["later"] == {"real": 50, "simulated": 10}
    assert turns["5+"] == {"real": 20, "simulated": 0}
    assert found["groups"]["3"]["statistics"]["words_mean"]["error"]["value"] is None


def test_people_against_themselves_have_no_error_and_no_distance():
    people = talks("r", 40, 1)
    found = habit_figures(persons_of(people), persons_of(people))
    for group in ("first", "later"):
        for row in found["groups"][group]["statistics"].values():
            assert row["error"]["value"] in (0.0, None)
    assert {d["value"] for d in found["distances"].values()} == {0.0}


def test_statistics_agree_with_those_of_the_report():
    people = planted("r", 7)
    expected = turn_statistics([c.opener for c in people], 20)
    found = habit_figures(persons_of(people), persons_of(people))["groups"]["first"]["statistics"]
    for name in ("words_median", "words_mean", "please", "question_mark", "up_to_3_words"):
        assert found[name]["real"] == pytest.approx(expected[name])


def test_the_baseline_stands_beside():
    found = habit_figures(
        persons_of(planted("s", 10)), persons_of(planted("r", 10)), persons_of(planted("p", 20))
    )
    row = found["groups"]["first"]["statistics"]["please"]
    assert (row["prompted"], row["error"]["prompted"]["value"]) == (1.0, 1.0)
    assert "prompted" in found["distances"]["words_first"]
