"""Training rows of scripts: a header of persona, scene, status and emotion, then the utterances.

The character is the assistant, everybody else the user, by name. Each utterance is a turn of the
chat format: its end is the format's own token, which no text can spell, so that no marker of ours
has to be looked for again. What another person thought is in no row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from usersim.chat_format import ChatFormat
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.personas.roleplay import LeftOut, character_system
from usersim.personas.scenes import Scene
from usersim.personas.schema import Persona
from usersim.personas.script import Script, Utterance
from usersim.rows import IGNORED, Row, Target
from usersim.settings import Settings

Loss = Literal["character", "all", "speech"]
GUEST = "Guest"
"""The user of a role-play who was told nothing of who they are."""


class ScriptView(Settings):
    """How a script is shown to a model in training. Lengths are in tokens."""

    window: int = Field(1024, ge=128, description="most tokens in one row, the header included")
    most: int = Field(192, ge=8, description="an utterance is cut after so many")
    loss: Loss = Field(
        "character",
        description="character: their speech and thoughts; all: everybody's; speech: their speech"
        " alone, and thoughts are in no row",
    )
    leave_out: LeftOut = Field(
        (), description="header lines to leave out: aspects, scene, emotion, or an attribute"
    )


@dataclass(frozen=True, slots=True)
class _Turn:
    """An utterance as tokens; `start` to `stop` is what is learned of it, if anything."""

    number: int
    ids: list[int]
    start: int
    stop: int
    labelled: bool


def shown(said: Utterance, viewer: str) -> Message:
    """An utterance as its viewer meets it: own lines as the assistant's, thoughts marked."""
    if said.speaker != viewer:
        return Message("user", f"{said.speaker}: {said.content}")
    thought = "(to myself) " if said.action == "thinking" else ""
    return Message("assistant", f"{thought}{said.content}")


def script_rows(script: Script, persona: Persona, chat: ChatFormat, view: ScriptView) -> list[Row]:
    """The rows of a script, seen by its main character.

    Every utterance that the loss names is a target exactly once, with the header and what it
    reacts to in its context. Raises InputError when header and utterances do not fit the window.
    """
    system = Message("system", character_system(persona, script.scene, view.leave_out))
    prefix = [*chat.bos_ids, *chat.message_ids(system)]
    turns = [
        _turn(number, said, script.main, chat, view)
        for number, said in enumerate(script.heard_by(script.main))
        if not (view.loss == "speech" and said.action == "thinking")
    ]
    room = view.window - len(prefix)
    if room < 2 * view.most + 32:  # what is reacted to, the reaction, and their headers
        raise InputError(
            f"a window of {view.window} holds a header of {len(prefix)} tokens and not two"
            f" utterances of {view.most}: raise its window or lower view.most"
        )
    return [_row(script.id, prefix, turns[a:b], c) for a, b, c in _windows(turns, room)]


def _turn(number: int, said: Utterance, main: str, chat: ChatFormat, view: ScriptView) -> _Turn:
    message = shown(said, main)
    header, text = chat.header_ids(message.role), chat.text_ids(message.content)
    whole = len(text) <= view.most and not said.cut
    text = text[: view.most]
    ids = [*header, *text, chat.end_of_turn_id, *chat.separator_ids]
    stop = len(header) + len(text) + whole  # who was broken off teaches no end
    labelled = view.loss == "all" or said.speaker == main
    return _Turn(number, ids, len(header), stop, labelled)


def _windows(turns: Sequence[_Turn], room: int) -> list[tuple[int, int, int]]:
    """(first turn shown, end, first turn learned) of each row; every turn is learned once."""
    windows, begin, learned, used = [], 0, 0, 0
    for place, turn in enumerate(turns):
        if used + len(turn.ids) > room:
            windows.append((begin, place, learned))
            begin = max(place - 1, 0)
            learned, used = place, sum(len(t.ids) for t in turns[begin:place])
        used += len(turn.ids)
    windows.append((begin, len(turns), learned))
    return [w for w in windows if any(t.labelled for t in turns[w[2] : w[1]])]


def _row(script_id: str, prefix: list[int], turns: Sequence[_Turn], learned: int) -> Row:
    row = Row(script_id, list(prefix), [IGNORED] * len(prefix))
    first = turns[0].number if turns else 0
    for place, turn in enumerate(turns):
        begin = len(row.input_ids)
        row.input_ids += turn.ids
        row.labels += [IGNORED] * len(turn.ids)
        if turn.labelled and place >= learned - first:
            start, stop = begin + turn.start, begin + turn.stop
            row.labels[start:stop] = row.input_ids[start:stop]
            row.targets.append(Target(turn.number, start, stop))
    return row


def script_of(
    conversation: Conversation, people: Mapping[str, Persona], scenes: Mapping[str, Scene]
) -> Script:
    """The script of a role-play session. Raises InputError when its cast is not known."""
    character = people.get(conversation.character_id or "")
    scene = scenes.get(conversation.scene_id or "")
    if character is None or scene is None:
        raise InputError(
            f"conversation {conversation.id} is no role-play of this cast: its character_id is"
            f" {conversation.character_id}, its scene_id {conversation.scene_id}"
        )
    user = people.get(conversation.persona_id or "")
    # Two made-up people may share a name; a script tells its speakers apart by theirs.
    other = user.name if user and user.name != character.name else GUEST
    names = {"assistant": character.name, "user": other}
    cut = set(conversation.cut_turns)
    return Script(
        id=conversation.id,
        scene=scene,
        speakers=(names["assistant"], names["user"]),
        utterances=tuple(
            Utterance(names[m.role], "speaking", m.content, cut=number in cut)
            for number, m in enumerate(conversation.turns)
        ),
        source="roleplay",
    )
