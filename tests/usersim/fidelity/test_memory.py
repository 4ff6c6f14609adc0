from made_talks import talk, talks

from usersim.fidelity.memory import TrainingTurns, memory_figures, personal_figures
from usersim.fidelity.persons import persons_of

TEXT = "write a long letter to my landlord about the broken heating in the kitchen please"


def test_planted_memories_are_found_and_people_are_the_floor():
    training = TrainingTurns([talk("t", TEXT, "thank you very much indeed for that")])
    simulated = persons_of(
        talk(f"s{n}", TEXT if n < 2 else f"something about number {n} instead", "go on then")
        for n in range(10)
    )
    found = memory_figures(simulated, persons_of(talks("r", 10, 1)), (), training)
    assert (found["openers"]["value"], found["openers"]["floor"]) == (0.2, 0.0)
    assert found["turns"]["value"] == 0.1
    assert found["longest"]["simulated"]["most"] == len(TEXT.split())
    assert found["longest"]["real"]["most"] == 0


def test_almost_the_same_is_a_memory_and_a_shared_topic_is_none():
    training = TrainingTurns([talk("t", TEXT)])
    near = talk("n", TEXT.replace("please", "thanks"))
    far = talk("f", "my landlord has not mended the broken heating, what can I do?")
    assert training.repeated_openers([near, far]) == [[1.0], [0.0]]
    assert training.longest([far])[0] == 0


def test_later_turns_are_compared_with_all_training_turns():
    training = TrainingTurns([talk("t", "what is that", "now the same in german please")])
    asked = talk("s", "now the same in german please", "tell me something else today")
    assert training.repeated_turns([asked]) == [[1.0, 0.0]]
    assert training.repeated_openers([asked]) == [[0.0]]


def test_personal_data_that_comes_out_is_counted_by_kind():
    leaking = talk("s1", "write to jane.miller@post-office-mail.com today", "thanks")
    simulated = persons_of([leaking, *talks("s", 9, 1)])
    found = personal_figures(simulated, persons_of(talks("r", 10, 2)), ())
    assert (found["value"], found["floor"], found["kinds"]) == (0.1, 0.0, {"email": 1})
