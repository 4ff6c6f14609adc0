"""How well and how fast UserGPT learns under different settings, judged on **dev** people.

    .venv/bin/python benchmarks/train_user.py runs/demo/people '{}' '{lora_rank: 64}' ...

Each variant is a YAML table of `train_user` settings on top of the defaults; each trains in a
process of its own with the allocator that the stages use. Every variant is scored on the same
people in the same view (the default one), so that their perplexities can be compared: free, and
told their profile. One JSON line a variant; its speed is in tokens per second of CPU time, which
other work on the machine changes less than the clock's.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.machine import machine
from pipelines.stage_process import QUIET, TRAINING_MEMORY
from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conditions import Teller
from usersim.leaving import calibrating_bias, end_table, leaving_rates
from usersim.perplexity import perplexity, score_rows
from usersim.ranks import train_model
from usersim.sft import FitSettings, draw_rows, load_model, save_checkpoint, windows
from usersim.train import TrainSettings, perplexity_change, pick, read_people


def main() -> None:
    """Train every variant, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("people", type=Path, help="a run's people/ folder")
    parser.add_argument("variants", nargs="+", help="YAML tables of train_user settings")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--dev", type=int, default=100, help="dev people to score")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--save", type=Path, help="keep the (last) trained checkpoint here")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(trained(options)), flush=True)
        return
    print(json.dumps({"machine": machine(), "load": os.getloadavg()}), flush=True)
    for variant in options.variants:
        arguments = [a for a in sys.argv[1:] if a not in options.variants]
        command = [sys.executable, __file__, *arguments, variant, "--one"]
        subprocess.run(command, env=os.environ | QUIET | TRAINING_MEMORY, check=False)


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """One variant: its perplexity on dev people before and after, and its speed."""
    table = yaml.safe_load(options.variants[0]) or {}
    settings = TrainSettings.model_validate(table)
    checkpoint = resolve_checkpoint(options.base)
    chat = ChatFormat.of(load_tokenizer(checkpoint)).playing("user", FREE_SYSTEM)
    people = read_people(options.people / "train.parquet")
    teller = Teller(settings.conditions, people, options.seed)
    rows_of = windows(chat, "user", settings, teller.at_random)
    rows = draw_rows(people, rows_of, settings.train_tokens, options.seed)
    dev = pick(read_people(options.people / "dev.parquet"), options.dev, options.seed)
    free, told = (
        windows(chat, "user", FitSettings()),
        windows(chat, "user", FitSettings(), lambda c: teller.told(c, intent=False, profile=True)),
    )
    held_out = [row for c in dev for row in free(c)]
    before = score_rows(
        load_model(checkpoint, training=False), held_out, chat.end_of_conversation_id, "before"
    )
    model, figures = train_model(checkpoint, rows, chat, settings, options.seed)
    after = score_rows(model, held_out, chat.end_of_conversation_id, "after")
    profile = [row for c in dev for row in told(c)] if settings.conditions.any else []
    with_profile = score_rows(model, profile, chat.end_of_conversation_id, "with a profile")
    bias = calibrating_bias(after, leaving_rates(people))
    change = perplexity_change(before, after)
    if options.save:
        save_checkpoint(model, chat, options.save, {"base": options.base, "end_bias": bias})
    return {
        "variant": table,
        "dev_perplexity": {
            key: change["detail"]["after"][key] for key in ("all", "first", "later")
        },
        "dev_with_profile": perplexity(with_profile, lambda _: True),
        "before": change["before"],
        "change": change["change"],
        "nll_difference": change["nll_difference"],
        "tokens": figures.tokens,
        "target_tokens": figures.target_tokens,
        "steps": figures.steps,
        "tokens_per_cpu_s": figures.to_dict()["tokens_per_cpu_s"],
        "cpu_s": round(figures.cpu_seconds, 1),
        "seconds": round(figures.seconds, 1),
        "peak_memory_gib": round(figures.peak_gib, 2),
        "tokens_per_s": round(figures.tokens / figures.seconds, 1),
        "processes": figures.processes,
        "threads": figures.threads,
        "end": end_table(after, bias),
    }


if __name__ == "__main__":
    main()
