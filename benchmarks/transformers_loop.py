"""Batched `transformers.generate`, turn by turn: the loop that needs no engine at all.

Runs in a process of its own and prints one JSON object. A batch is as wide as there are slots; each
turn's batch runs to the longest of its turns, and the whole history is read anew every time.
"""

import argparse
import json
import time
from typing import Any

from benchmarks.contestants import ROLES
from benchmarks.workload import SHARED_SYSTEM, Work
from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Message


def loop(work: Work, model_name: str) -> dict[str, float]:
    """Hold the first `slots` conversations of the work; tokens of use, CPU-seconds."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    folder = resolve_checkpoint(model_name)
    chat = ChatFormat.of(load_tokenizer(folder))
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.bfloat16).eval()
    plans = work.plans()[: work.slots]
    said: list[list[Message]] = [[SHARED_SYSTEM] for _ in plans]
    cpu, wall, tokens = time.process_time(), time.monotonic(), 0
    for turn in range(2 * work.rounds):
        lengths = [work.length(plan.turn_seed(turn, 0), turn) for plan in plans]
        prompts = [chat.prompt_ids(messages, ROLES[turn % 2]) for messages in said]
        made = _generated(model, prompts, max(lengths), chat)
        for messages, ids, length in zip(said, made, lengths, strict=True):
            text = chat.tokenizer.decode(ids[:length], skip_special_tokens=True).strip()
            messages.append(Message(ROLES[turn % 2], text or "."))
        tokens += sum(lengths)
    return {
        "tokens": tokens,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
    }


def _generated(model: Any, prompts: list[list[int]], length: int, chat: ChatFormat) -> Any:
    """`length` new ids for every prompt, padded on the left."""
    import torch

    width, end = max(map(len, prompts)), chat.end_of_turn_id
    ids = torch.tensor([[end] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, top_p=0.9, pad_token_id=end,
            min_new_tokens=length, max_new_tokens=length,
        )  # fmt: skip
    return out[:, width:].tolist()


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", help="the work's fields as JSON")
    parser.add_argument("model")
    options = parser.parse_args()
    print(json.dumps(loop(Work(**json.loads(options.work)), options.model)))


if __name__ == "__main__":
    main()
