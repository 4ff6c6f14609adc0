"""Benchmarks as questions: from a file of whatever layout, or from the hub by name.

Nothing of a benchmark is shipped here. Where there is no network, fetch the file and name its path.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.decontamination import Benchmark
from usersim.errors import InputError, WorldError
from usersim.files import write_text
from usersim.sources.file_records import raw_records

HUB = {
    # Their records hold `prompt` (a list), `instruction`, and `prompt`; FastChat's hold `turns`.
    "mt-bench": ("HuggingFaceH4/mt_bench_prompts", "raw/question.jsonl"),
    "alpaca-eval": ("tatsu-lab/alpaca_eval", "alpaca_eval.json"),
    "arena-hard": ("lmarena-ai/arena-hard-auto", "data/arena-hard-v0.1/question.jsonl"),
}
"""Datasets of the hub that hold a benchmark's questions, and the file in them."""
WEB = {
    "vicuna-bench": "https://raw.githubusercontent.com/lm-sys/FastChat/main/fastchat/llm_judge/data/"
    "vicuna_bench/question.jsonl",
}
"""Benchmarks that are on no hub, and their file."""
FROM_HUB = "hub:"
FIELDS = (
    "turns", "prompt", "prompts", "instruction", "question", "query", "input", "text", "messages",
    "conversation",
)  # fmt: skip
"""Where a record may hold its questions; the first that it has counts."""
TEXT = (".txt", ".md")


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name, a `hub:OWNER/NAME/FILE`, or a path.

    Raises InputError when there is no such benchmark or it holds no question, WorldError when it
    cannot be fetched.
    """
    path = _path(name)
    if not path.is_file():
        known = ", ".join([*HUB, *WEB])
        raise InputError(f"no benchmark {name!r}: a file, hub:OWNER/NAME/FILE, or one of {known}")
    found = tuple(_lines(path) if path.suffix in TEXT else _questions(path))
    if not found:
        raise InputError(f"{path} holds no question in any of {', '.join(FIELDS)}")
    # On the hub many a file is called `test-00000-of-00001.parquet`: the dataset tells it apart.
    # The folder of one here is nobody's business.
    is_here = name not in {*HUB, *WEB} and not name.startswith(FROM_HUB)
    return Benchmark(path.name if is_here else name.removeprefix(FROM_HUB), found)


def _path(name: str) -> Path:
    if name in WEB:
        return _downloaded(name)
    if name in HUB:
        return _fetched(*HUB[name])
    if not name.startswith(FROM_HUB):
        return Path(name)
    parts = name.removeprefix(FROM_HUB).split("/", 2)
    if len(parts) < 3:
        raise InputError(f"{name!r}: write hub:OWNER/NAME/FILE, with the file in the dataset")
    return _fetched("/".join(parts[:2]), parts[2])


def _fetched(repo: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset"))
    except Exception as error:
        raise _unfetched(f"{file} of {repo}", error) from error


def _downloaded(name: str) -> Path:
    """A file of the web, kept beside what the hub's client keeps."""
    import httpx
    from huggingface_hub.constants import HF_HOME

    path = Path(HF_HOME) / "realchat" / f"{name}.jsonl"
    if not path.is_file():
        try:
            found = httpx.get(WEB[name], timeout=60, follow_redirects=True).raise_for_status()
        except httpx.HTTPError as error:
            raise _unfetched(WEB[name], error) from error
        write_text(path, found.text)
    return path


def _unfetched(what: str, error: Exception) -> WorldError:
    return WorldError(
        f"cannot fetch {what} ({type(error).__name__}); fetch it by other means and name its path "
        "in curate.decontamination.benchmarks"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    return (line.strip() for line in _text(path).splitlines() if line.strip())


def _questions(path: Path) -> Iterator[str]:
    for record in _records(path):
        if not isinstance(record, Mapping):
            continue
        held = next((record[f] for f in FIELDS if record.get(f)), None)
        yield from (text for text in _texts(held) if text.strip())


def _records(path: Path) -> Iterator[Any]:
    if path.suffix != ".csv":
        return (record.value for record in raw_records(path))
    return _csv_rows(path)


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(io.StringIO(_text(path), newline=""))
    except csv.Error as error:
        raise InputError(f"cannot read {path} as CSV: {error}") from error


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
