"""Benchmarks as questions: from a file of whatever layout, or from the hub by name.

Nothing of a benchmark is shipped here. Where there is no network, fetch the file and name its path.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.decontamination import Benchmark
from usersim.errors import InputError, WorldError
from usersim.sources.file_records import raw_records

HUB = {
    "mt-bench": ("HuggingFaceH4/mt_bench_prompts", "raw/question.jsonl"),
    "alpaca-eval": ("tatsu-lab/alpaca_eval", "alpaca_eval.json"),
    "arena-hard": ("lmarena-ai/arena-hard-auto", "data/arena-hard-v0.1/question.jsonl"),
}
"""Datasets of the hub that hold a benchmark's questions, and the file in them."""
ELSEWHERE = {
    "vicuna-bench": "fastchat/llm_judge/data/vicuna_bench/question.jsonl of FastChat's repository",
}
FIELDS = (
    "turns", "prompt", "prompts", "instruction", "question", "query", "input", "text", "messages",
    "conversation",
)  # fmt: skip
"""Where a record may hold its questions; the first that it has counts."""
TEXT = (".txt", ".md")


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name, a `hub:OWNER/NAME/FILE`, or a path.

    Raises InputError when there is no such benchmark or it holds no question, WorldError when the
    hub cannot be reached.
    """
    path = _path(name)
    if not path.is_file():
        known = ", ".join([*HUB, *ELSEWHERE])
        raise InputError(f"no benchmark {name!r}: a file, hub:OWNER/NAME/FILE, or one of {known}")
    found = tuple(_lines(path) if path.suffix in TEXT else _questions(path))
    if not found:
        raise InputError(f"{path} holds no question in any of {', '.join(FIELDS)}")
    return Benchmark(name if name in HUB else path.name, found)


def _path(name: str) -> Path:
    if name in ELSEWHERE:
        raise InputError(f"{name} is not on the hub: fetch {ELSEWHERE[name]} and name its path")
    if name in HUB:
        return _fetched(*HUB[name])
    if not name.startswith("hub:"):
        return Path(name)
    parts = name.removeprefix("hub:").split("/", 2)
    if len(parts) < 3:
        raise InputError(f"{name!r}: write hub:OWNER/NAME/FILE, with the file in the dataset")
    return _fetched("/".join(parts[:2]), parts[2])


def _fetched(repo: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset"))
    except Exception as error:
        raise WorldError(
            f"cannot fetch {file} of {repo} from the hub ({type(error).__name__}); fetch it by "
            "other means and name its path in curate.decontamination.benchmarks"
        ) from error


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return (line.strip() for line in text.splitlines() if line.strip())


def _questions(path: Path) -> Iterator[str]:
    for record in raw_records(path):
        if not isinstance(record.value, Mapping):
            continue
        held = next((record.value[f] for f in FIELDS if record.value.get(f)), None)
        yield from (text for text in _texts(held) if text.strip())


def _texts(held: Any) -> Iterator[str]:
    """Texts of users in a string, a list of strings, or a list of messages."""
    if isinstance(held, str):
        yield held
    elif isinstance(held, Mapping):
        if held.get("role", "user") == "user":
            yield from _texts(held.get("content"))
    elif isinstance(held, Sequence):
        for part in held:
            yield from _texts(part)
