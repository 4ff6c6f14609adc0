import random

import pytest
from made_talks import sentence, talk, talks

from usersim.fidelity.persons import persons_of
from usersim.fidelity.roles import confusion_of_attempts, has_broken_down, role_figures

SLIP = "As an AI language model, I cannot have opinions about that."
ANSWERS = ["certainly", "here", "are", "several", "important", "steps", "firstly", "additionally"]


def speaking(prefix, number, slips=0):
    """People who ask and assistants who answer, in words of their own; some users answer too."""
    generator = random.Random(prefix)
    return persons_of(
        talk(
            f"{prefix}{n}",
            *(
                sentence(generator, ANSWERS if n < slips else ["why", "does", "my", "cat", "do"])
                for _ in range(2)
            ),
            answers=[sentence(generator, ANSWERS, 12) for _ in range(2)],
        )
        for n in range(number)
    )


def test_planted_slips_are_counted():
    simulated = [talk(f"s{n}", "hello there", SLIP if n < 5 else "and then?") for n in range(20)]
    found = role_figures(persons_of(simulated), persons_of(talks("r", 20, 1)))["confusion"]
    assert (found["value"], found["floor"]) == (5 / 40, 0.0)


def test_attempts_that_a_guard_refused_count_too():
    guards = {"user:role_confusion": 3, "user:cut_off": 2, "assistant:looping": 9}
    assert confusion_of_attempts(guards, stood=20) == pytest.approx(3 / 25)
    assert confusion_of_attempts({}, stood=0) is None


def test_a_classifier_hears_who_answers_though_no_wording_is_listed():
    found = role_figures(speaking("s", 40, slips=10), speaking("r", 40))["taken_for_assistant"]
    assert found["value"] == pytest.approx(0.25, abs=0.05)
    assert found["floor"] < 0.05


def test_too_few_turns_teach_nobody():
    assert role_figures(speaking("s", 5), speaking("r", 6))["taken_for_assistant"] is None


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        (talk("a", "one thing", "another thing", stop_reason="goodbye_loop"), True),
        (talk("b", "one thing", "another thing", stop_reason="user_ended"), False),
        (talk("c", "tell me about the old town", "tell me about the old town"), True),
        (talk("d", "go on", "go on", "go on"), True),
        (talk("e", "go on", "go on"), False),
        (talk("f", "thanks, bye", "bye bye", answers=["You're welcome!", "Goodbye!"]), True),
    ],
)
def test_a_real_conversation_is_judged_by_the_simulation_s_own_rules(conversation, expected):
    assert has_broken_down(conversation) is expected
