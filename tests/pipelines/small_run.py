"""A run folder with a corpus and models in it, made in milliseconds: nothing is trained."""

import json
from pathlib import Path

from pipelines.corpus import build_corpus
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from usersim.conversation import Conversation, Message
from usersim.files import write_conversations, write_json

CURATED = {
    "kept_share": 0.9,
    "before_after": {"after": {"duplicates": 0.0, "personal_data": 0.0}},
}
LOSS = {when: {"mean": 2.0, "low": 1.9, "high": 2.1} for when in ("before", "after", "difference")}


def conversations(number: int, license: str) -> list[Conversation]:
    return [
        Conversation(
            messages=[
                Message("user", f"what is {i} times {i + 7}, and why does it matter to anybody?"),
                Message("assistant", f"It is {i * (i + 7)}; people who count care about {i}."),
            ],
            id=f"row-{i}",
            source="realchat",
            license=license,
            stop_reason="user_ended",
        )
        for i in range(number)
    ]


def make_run(
    root: Path, rows_under: str = "cc-by-4.0", number: int = 40, shard_bytes: int = 2048, **corpus
) -> RunFolder:
    """A run whose stages are done, with a report."""
    run = RunFolder(root)
    table = {"name": root.name, "corpus": {"max_shard_bytes": shard_bytes, **corpus}}
    recipe = Recipe.checked(table, "test")
    with run.locked():
        run.adopt(recipe)
        rows = conversations(number, rows_under)
        write_conversations(run.people / "train.parquet", rows[:5])
        write_conversations(run.curated / "part-00000.parquet", rows)
        for model, opens in ((run.user_model, "user"), (run.assistant_model, "assistant")):
            checkpoint(model, opens)
        figures = build_corpus(recipe.corpus, run.curated, run.rejected, run.corpus, {})
        run.report.write_text("<!doctype html><p>good</p>")
        run.finish(stage_named("curate"), recipe, 1.0, CURATED)
        for name in ("ingest", "train_user", "simulate", "train_assistant"):
            run.finish(stage_named(name), recipe, 1.0, {})
        run.finish(stage_named("corpus"), recipe, 1.0, figures)
        run.write_manifest(recipe)
    return run


def checkpoint(folder: Path, opens: str) -> None:
    """Files of a checkpoint, but for the weights' meaning."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(f"weights of {opens}".encode() * 40)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "optimizer.pt").write_bytes(b"a pickle")
    about = {"opens": opens, "base": "/home/somebody/models/small-base"}
    perplexity = {"before": 30.5, "after": 12.25}
    figures = {"perplexity": perplexity} if opens == "user" else {"loss": {"real": LOSS}}
    write_json(folder / "realchat.json", about | figures)
