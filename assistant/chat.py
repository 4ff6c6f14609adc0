"""Talk to a checkpoint in the terminal: to an assistant, or to a UserGPT."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import about_checkpoint, resolve_checkpoint
from usersim.conversation import Message, Role
from usersim.engine import Engine, Sampling
from usersim.engines import EngineSpec, open_engine
from usersim.leaving import EndBias, bias_after, learned_bias
from usersim.plan import FORBID_END

LEAVE = ("/quit", "/exit")


def chat(
    model: str | Path,
    engine: Engine | None = None,
    read: Callable[[str], str] = input,
    write: Callable[[str], None] | None = None,
) -> None:
    """Talk until the person types /quit or ends the input, or until UserGPT leaves.

    `read` takes a prompt and returns a line (EOFError ends), `write` shows a line. A UserGPT speaks
    first. Without an `engine` the model is opened on vLLM.
    """
    write = write or _show
    opens: Role = "assistant"
    bias: EndBias = 0.0
    if engine is None:
        checkpoint = resolve_checkpoint(model)
        opens = ChatFormat.of(load_tokenizer(checkpoint)).opens
        bias = learned_bias(about_checkpoint(checkpoint))
        write(f"opening {checkpoint.name} (half a minute)")
        engine = open_engine(EngineSpec(kind="vllm", model=str(checkpoint), max_num_seqs=1))
    else:
        opens = getattr(engine, "opens", "assistant")
    asyncio.run(_talk(engine, opens, bias, read, write))


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _talk(
    engine: Engine,
    opens: Role,
    bias: EndBias,
    read: Callable[[str], str],
    write: Callable[[str], None],
) -> None:
    person: Role = "assistant" if opens == "user" else "user"
    messages: list[Message] = []
    write(f"You are the {person}; /quit leaves.")
    speaker: Role = "user"
    try:
        while True:
            if speaker == opens:
                # Nobody leaves before saying anything.
                leaving = bias_after(len(messages) // 2, bias) if messages else FORBID_END
                sampling = Sampling(max_tokens=256, temperature=0.8, top_p=0.9, end_bias=leaving)
                text = (await engine.complete(messages, sampling)).text.strip()
                write(f"{speaker}> {text}" if text else f"({speaker} has left)")
            else:
                text = _typed(person, read)
            if not text:
                break
            messages.append(Message(speaker, text))
            speaker = "assistant" if speaker == "user" else "user"
    finally:
        await engine.close()


def _typed(person: Role, read: Callable[[str], str]) -> str:
    """The next non-empty line, or nothing when the person leaves."""
    while True:
        try:
            line = read(f"{person}> ").strip()
        except EOFError:
            return ""
        if line in LEAVE:
            return ""
        if line:
            return line
