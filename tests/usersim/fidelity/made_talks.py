"""Conversations whose differences are known because they were planted."""

import random

from usersim.conversation import Conversation, Message

COMMON = [
    "please", "show", "me", "how", "that", "list", "of", "names", "can", "be", "sorted", "by",
    "age", "in", "the", "other", "file", "now",
]  # fmt: skip


def talk(name, *user_turns, answers=None, **fields):
    """A conversation of these user turns, every one answered."""
    said = answers or ["An answer."] * len(user_turns)
    messages = [
        message
        for turn, answer in zip(user_turns, said, strict=True)
        for message in (Message("user", turn), Message("assistant", answer))
    ]
    return Conversation(id=name, messages=tuple(messages), **fields)


def sentence(generator, words=COMMON, length=8):
    """Words drawn at random."""
    return " ".join(generator.choices(words, k=length))


def talks(prefix, number, seed, turns=3, words=COMMON, ending=""):
    """So many conversations of one process; another seed draws others of the same."""
    generator = random.Random(seed)
    return [
        talk(f"{prefix}{n}", *(sentence(generator, words) + ending for _ in range(turns)))
        for n in range(number)
    ]
