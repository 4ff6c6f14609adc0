"""What a simulated user repeats of training people is found; what everybody says is not."""

from usersim.conversation import Conversation, Message
from usersim.memorisation import Memory, MemorySettings, recall_figures

LONG = " ".join(f"word{i}" for i in range(60))


def talk(row_id, *user_turns):
    messages = [m for t in user_turns for m in (Message("user", t), Message("assistant", "Yes."))]
    return Conversation(id=row_id, messages=tuple(messages))


PEOPLE = [
    talk("p1", "my grandmother keeps bees behind the old mill and they swarm every may", "why"),
    talk("p2", "tell me a joke", LONG),
]
MEMORY = Memory(PEOPLE, MemorySettings())


def recall(*turns):
    return MEMORY.recalls([talk("s", *turns)])[0]


def test_an_opener_of_a_training_person_is_found_with_its_id():
    found = recall("My grandmother keeps bees behind the old mill, and they swarm every May!")
    assert found.opener_of == "p1"
    assert found.similarity == 1.0
    assert found.found == "opener of p1 (1.00)"
    near = recall("my grandmother keeps bees behind the old mill and they swarm every may sadly")
    assert near.opener_of == "p1"
    assert 0.8 <= near.similarity < 1.0


def test_what_everybody_says_is_nobodys():
    assert recall("tell me a joke").found is None
    assert recall("my grandmother keeps bees in the garden, and they are calm").found is None


def test_the_longest_stretch_counts_over_all_turns():
    words = LONG.split()
    found = recall("hello there", f"so {' '.join(words[5:45])} and that is all")
    assert found.verbatim_words == 40
    assert found.found == "40 words verbatim"
    short = recall("hello there", f"so {' '.join(words[5:25])}")
    assert (short.verbatim_words, short.found) == (20, None)


def test_figures_count_conversations():
    recalls = [recall(PEOPLE[0].opener), recall(LONG), recall("nothing of that")]
    figures = recall_figures(recalls)
    assert (figures["conversations"], figures["longest"]) == (3, 60)
    assert figures["openers"] == figures["verbatim"] == 0.3333
    assert recall_figures([])["openers"] is None
    assert MEMORY.recalls([]) == []
