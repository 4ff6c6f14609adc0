"""Experiences: scenes played out, each utterance traceable to the paragraph that it comes from.

The template's completion says what the paragraph says, in the first person, so that it needs no
model and cannot invent. `writing` has the engine's, under a schema. An experience becomes a
conversation: the character is the assistant, whoever else speaks is the user, and each utterance is
ended by the chat template's own end-of-turn token, which no text can spell.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from assistant.characters.profile import Profile
from assistant.characters.scenes import NO_TOPIC, Scene, SceneType, topics
from assistant.characters.voice import deeds, first_person, lived
from usersim.conversation import Conversation, Message
from usersim.files import fingerprint
from usersim.personas.scenes import with_article

Action = Literal["speaking", "thinking"]

OPENINGS: dict[SceneType, tuple[str, ...]] = {
    "chat": ("Tell me about {topic}.", "What do you remember of {topic}?",
             "How was it with {topic}?"),
    "interview": ("My readers ask about {topic}. What can you tell them?",
                  "For the record: what is there to know about {topic}?"),
    "discussion": ("I keep thinking about {topic}. What happened there?",
                   "Help me understand {topic}."),
    "debate": ("I do not believe the stories about {topic}. What is true?",
               "Some say otherwise about {topic}. What do you say?"),
    "speech": ("Everyone here would like to hear about {topic}.",
               "Please, a few words about {topic}."),
}  # fmt: skip
FOLLOWING = (
    "And {topic}?", "What about {topic}?", "Go on. How does {topic} come into it?",
    "You mentioned that. And then?", "What else was there?", "And what of {topic}?",
)  # fmt: skip
DIRECT = (
    "Do you know {topic}?", "Do you remember {topic}?", "When did you last think of {topic}?",
    "What did {topic} mean to you?", "Which story goes with {topic}?", "Where was {topic}?",
    "Did you see {topic} yourself?", "How did it come to {topic}?", "Who or what was {topic}?",
    "What happened with {topic}?", "Why do people ask you about {topic}?",
    "Somebody told me about {topic}.", "What did you do with {topic}?",
)  # fmt: skip
"""What provocations sound like too: only what is asked about tells the two apart."""
OF_DEEDS = (
    "What was it that you {deed}?", "What can you say of what you {deed}?",
    "Who or what was it that you {deed}?", "How was that, when you {deed} something?",
)  # fmt: skip
DIRECT_SHARE = 0.7  # of the questions but speeches; the others begin as OPENINGS do
THOUGHTS = (
    "It is long since anyone asked me about {topic}.", "I see {topic} before me as I speak.",
    "How much of {topic} shall I tell?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one person said or thought, and where it comes from."""

    speaker: str
    text: str
    action: Action = "speaking"
    paragraph: str = ""
    """The paragraph that it speaks of; empty for protective experiences, which are about none."""


@dataclass(frozen=True, slots=True)
class Experience:
    """A scene played out. `kind` is `life`, or the boundary that a protective one guards."""

    id: str
    character: str
    kind: str
    place: str
    status: str
    utterances: tuple[Utterance, ...]
    paragraph: str = ""
    scene: str = ""
    writer: str = "template"

    def to_row(self) -> dict[str, Any]:
        """Plain values; `from_row` undoes it."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The experience of a row."""
        utterances = tuple(Utterance(**u) for u in row["utterances"])
        return cls(**{**row, "utterances": utterances})


def experience_id(*parts: Any) -> str:
    """The same for the same content."""
    return fingerprint(list(parts))


def complete(scene: Scene, profile: Profile, seed: int = 0, thoughts: float = 0.3) -> Experience:
    """The scene as the template plays it: a round for each focus sentence; a speech is one turn.

    `thoughts` is the share of experiences in which the character thinks before speaking.
    """
    generator = random.Random(f"{scene.id} {seed}")
    utterances: list[Utterance] = []
    for number, (asked, answer) in enumerate(_told(profile, scene, generator)):
        question = _question(scene, asked, answer, number, generator)
        utterances.append(Utterance(scene.partner, question, paragraph=scene.paragraph))
        if number == 0 and generator.random() < thoughts:
            thought = generator.choice(THOUGHTS).format(topic=_mine(scene.topic))
            utterances.append(Utterance(profile.name, thought, "thinking", scene.paragraph))
        utterances.append(Utterance(profile.name, answer, paragraph=scene.paragraph))
    return Experience(
        id=experience_id(scene.id, seed, "template"),
        character=profile.name,
        kind="life",
        place=scene.place,
        status=scene.background,
        utterances=tuple(utterances),
        paragraph=scene.paragraph,
        scene=scene.id,
    )


def _told(profile: Profile, scene: Scene, generator: random.Random) -> list[tuple[str, str]]:
    """What can be asked about each focus sentence, and the sentence in the first person.

    What only others could tell, the person's death, is left out; where nothing else is in focus,
    the paragraph's other sentences are told.
    """
    sentences = profile.paragraph(scene.paragraph).sentences
    said = {n: lived(first_person(text, profile)) for n, text in enumerate(sentences)}
    chosen = [n for n in scene.focus if said[n]] or [n for n in said if said[n]]
    if not chosen:
        return [(scene.topic, first_person(sentences[0], profile))]
    joined = _joined(chosen, scene)
    return [
        (
            generator.choice(topics(sentences[group[0]], profile)[:3]),
            " ".join(said[n] for n in group),
        )
        for group in joined
    ]


def _joined(chosen: Sequence[int], scene: Scene) -> list[list[int]]:
    """In speeches a person says all at once; elsewhere one sentence an answer."""
    return [list(chosen)] if scene.type == "speech" else [[n] for n in chosen]


def _question(scene: Scene, asked: str, answer: str, number: int, generator: random.Random) -> str:
    """What the partner says to hear `answer`."""
    direct = [] if scene.type == "speech" else _direct(asked, answer)
    if direct and generator.random() < DIRECT_SHARE:
        return generator.choice(direct)
    lines = OPENINGS[scene.type] if number == 0 else FOLLOWING
    return generator.choice(lines).format(topic=asked)


def _direct(asked: str, answer: str) -> list[str]:
    """Questions as provocations are: of a thing or a person, or of a deed."""
    of_things = [] if asked == NO_TOPIC else [q.format(topic=asked) for q in DIRECT]
    return of_things + [q.format(deed=d) for d in deeds(answer) for q in OF_DEEDS]


def _mine(topic: str) -> str:
    return re.sub(r"^your ", "my ", topic)


def header(name: str, place: str, status: str, trade: str = "") -> str:
    """The system message of a conversation in which a model is to be this person."""
    who, first = f"{name}, {with_article(trade)}" if trade else name, name.split(maxsplit=1)[0]
    return (
        f"You are {who}. Speak as {first} does, of what {first} knows.\n"
        f"Place: {place}\nNow: {status}"
    )


def to_conversation(experience: Experience, trade: str = "", thoughts: bool = True) -> Conversation:
    """The experience as our record: the character answers, everybody else asks.

    Consecutive utterances of one side become one turn. A thought stands in parentheses, or is left
    out. Raises InputError where nothing is left to say.
    """
    turns: list[Message] = []
    for utterance in experience.utterances:
        if utterance.action == "thinking" and not thoughts:
            continue
        own = utterance.speaker == experience.character
        text = f"({utterance.text})" if utterance.action == "thinking" else utterance.text
        if turns and (turns[-1].role == "assistant") == own:
            turns[-1] = Message(turns[-1].role, f"{turns[-1].content}\n{text}")
        elif turns or not own:
            turns.append(Message("assistant" if own else "user", text))
        else:
            turns += [Message("user", f"{experience.character.split()[0]}?")]
            turns += [Message("assistant", text)]
    system = header(experience.character, experience.place, experience.status, trade)
    return Conversation(
        id=experience.id,
        messages=(Message("system", system), *turns),
        source=f"experience:{experience.kind}",
        persona_id=experience.character,
        assistant_model=experience.writer,
        intent_id=experience.paragraph or None,
    )
