"""How quick the dashboard is over a million conversations: `make bench-dashboard`.

Writes a run of synthetic conversations as long as the demo's, starts `realchat dashboard`
on it in a process of its own, and asks it as a browser does. Prints one JSON line; medians of five.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.machine import machine
from usersim.conversation import conversation_schema, rejection_schema
from usersim.files import write_json, write_text

SHARD = 20_000
VOCABULARY = 30_000
USER_WORDS, ANSWER_WORDS = 16, 56
"""Words of a median turn, so that a conversation has about the 1,500 characters of the demo's."""
NEEDLE = "zebrafinch"
REASONS = ("assistant_refusal", "role_confusion", "near_duplicate_opener", "looping")
COMMON = "mii"
"""A frequent word of the vocabulary: over 200,000 conversations hold it."""
TIMES = 5
BARS = {"first_page_s": 2.0, "search_s": 2.0, "slowest_page_s": 2.0, "memory_gb": 1.5}


def words(rng: np.random.Generator) -> np.ndarray:
    """Invented words, the frequent ones short as a language's are."""
    letters = np.array(list("eeettaaooiinnsshrrdlucm"))
    made: dict[str, None] = {}
    while len(made) < VOCABULARY:
        size = 1 + len(made) // 4000 + int(rng.integers(1, 6))
        made["".join(rng.choice(letters, size))] = None
    return np.array(list(made), dtype=object)


def turns(rng: np.random.Generator, vocabulary: np.ndarray, count: int, median: int) -> list[str]:
    """Texts with frequencies as Zipf found them, and lengths as people's are spread."""
    lengths = np.maximum(2, rng.lognormal(np.log(median), 0.7, count).astype(int))
    drawn = np.minimum((VOCABULARY ** rng.random(lengths.sum())).astype(int), VOCABULARY) - 1
    ends = np.cumsum(lengths)
    spoken = vocabulary[drawn].tolist()
    return [" ".join(spoken[end - n : end]) for end, n in zip(ends, lengths, strict=True)]


def write_run(root: Path, count: int) -> None:
    """The run folder, shard by shard."""
    rng, vocabulary = np.random.default_rng(7), words(np.random.default_rng(7))
    (root / "conversations").mkdir(parents=True)
    verdicts, rejected = [], []
    for number, first in enumerate(range(0, count, SHARD)):
        size = min(SHARD, count - first)
        rows = shard(rng, vocabulary, first, size)
        path = root / "conversations" / f"part-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, conversation_schema()), path, compression="zstd")
        for row in rows:
            verdict(row["id"], rng, verdicts, rejected)
        print(f"  {first + size:,} conversations written", file=sys.stderr, end="\r")
    (root / "curated" / "verdicts").mkdir(parents=True)
    (root / "rejected").mkdir()
    pq.write_table(pa.Table.from_pylist(verdicts), root / "curated/verdicts/verdicts.parquet")
    rejections = pa.Table.from_pylist(rejected, rejection_schema())
    pq.write_table(rejections, root / "rejected/curate.parquet", compression="zstd")
    write_text(root / "recipe.yaml", f"name: million\nsimulate: {{conversations: {count}}}\n")
    figures = {"simulate": {"planned": count, "conversations": count}}
    write_json(root / "metrics.json", figures | {"curate": {"kept": count - len(rejected)}})


def shard(rng: np.random.Generator, vocabulary: np.ndarray, first: int, size: int) -> list[dict]:
    """Rows of one shard; one conversation in a thousand holds the word that is looked for."""
    rounds = np.minimum(4, rng.geometric(0.38, size))
    asked = iter(turns(rng, vocabulary, int(rounds.sum()), USER_WORDS))
    said = iter(turns(rng, vocabulary, int(rounds.sum()), ANSWER_WORDS))
    rows = []
    for i in range(size):
        messages = []
        for _ in range(rounds[i]):
            messages.append({"role": "user", "content": next(asked)})
            messages.append({"role": "assistant", "content": next(said)})
        if (first + i) % 1000 == 0:
            messages[0]["content"] += f" {NEEDLE}"
        stop = "max_rounds" if rounds[i] == 4 else "user_ended"
        rows.append({"id": f"{first + i:016x}", "messages": messages, "stop_reason": stop,
                     "source": "bench", "persona_id": f"p{i % 50}"})  # fmt: skip
    return rows


def verdict(identity: str, rng: np.random.Generator, verdicts: list, rejected: list) -> None:
    """One row in ten is rejected, a quarter of those for a kept one."""
    draw = rng.random(2)
    language = "en" if draw[0] < 0.97 else "de"
    verdicts.append({"id": identity, "language": language, "quality": float(draw[1])})
    if draw[0] > 0.1:
        return
    reason = REASONS[int(draw[0] * 40)]
    twin = f"{int(identity, 16) // 50 * 50 + 49:016x}"
    detail = f"kept={twin} similarity=0.9" if "duplicate" in reason else ""
    rejected.append({"id": identity, "stage": "filters", "reason": reason, "detail": detail,
                     "record": "{}"})  # fmt: skip


def timed(client: httpx.Client, path: str, times: int = TIMES) -> tuple[float, str]:
    """Median seconds until the whole page is here, and the page."""
    seconds, text = [], ""
    for _ in range(times):
        began = time.perf_counter()
        answer = client.get(path)
        answer.raise_for_status()
        seconds.append(time.perf_counter() - began)
        text = answer.text
    return statistics.median(seconds), text


def count_on(page: str) -> int:
    """How many conversations the page says match."""
    found = re.search(r'id="count">(?:more than )?([0-9,]+) of', page)
    return int(found[1].replace(",", "")) if found else -1


def cpu_and_memory(process: int) -> tuple[float, float]:
    """CPU seconds so far, and the largest resident memory so far in GB."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak[1]) / 1e6


def measured(client: httpx.Client, process: int, count: int) -> dict:
    """All figures of one server."""
    result: dict = {"conversations": count}
    result["first_page_s"], _ = timed(client, "/", 1)
    at = "/runs/million/conversations"
    result["first_list_while_indexing_s"], _ = timed(client, at, 1)
    began = time.perf_counter()
    while "being made" in timed(client, at, 1)[1]:
        time.sleep(1)
    result["index_s"] = time.perf_counter() - began
    result["index_cpu_s"], result["memory_while_indexing_gb"] = cpu_and_memory(process)
    seed = random.Random(3)
    pages = {
        "runs_s": "/",
        "list_s": at,
        "search_s": f"{at}?q={NEEDLE}",
        "search_beginning_s": f"{at}?q=ite*",
        "search_common_s": f"{at}?q={COMMON}",
        "search_phrase_s": f"{at}?q=%22t+{NEEDLE}%22",
        "search_filtered_s": f"{at}?q={NEEDLE}&outcome=rejected&min_rounds=2",
        "filter_s": f"{at}?reason=assistant_refusal&language=en&sort=longest",
        "score_s": f"{at}?score=quality&low=0.99&sort=score",
        "far_page_s": f"{at}?page=30000",
        "open_s": f"{at}/{seed.randrange(count):016x}",
        "duplicates_s": "/runs/million/duplicates",
        "sides_s": "/runs/million/sides",
    }
    for name, path in pages.items():
        result[name], page = timed(client, path)
        if name == "search_s":
            assert count_on(page) == count // 1000, page[:400]
    asked = ["first_page_s", "first_list_while_indexing_s", *pages]
    result["slowest_page_s"] = max(result[name] for name in asked)
    result["cpu_s"], result["memory_gb"] = cpu_and_memory(process)
    return {key: round(value, 3) for key, value in result.items()}


def main() -> None:
    """Write, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the runs there, and use them again")
    parser.add_argument("--only-write", action="store_true")
    parser.add_argument("--keep-index", action="store_true", help="use the folder's index again")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="bench-dashboard-"))
    run = folder / "million"
    try:
        if not (run / "metrics.json").exists():
            shutil.rmtree(run, ignore_errors=True)
            write_run(run, asked.conversations)
        if asked.only_write:
            return
        if not asked.keep_index:
            shutil.rmtree(run / ".dashboard", ignore_errors=True)
        code = "from pipelines.cli import main; main()"
        command = [sys.executable, "-c", code, "dashboard", str(folder), "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().split()[0]
            with httpx.Client(base_url=url, timeout=300) as client:
                result = measured(client, server.pid, asked.conversations)
        finally:
            server.terminate()
            server.wait(30)
        index = sum(p.stat().st_size for p in (run / ".dashboard").rglob("*")) / 1e6
        shards = sum(p.stat().st_size for p in (run / "conversations").iterdir()) / 1e6
        result |= {"index_mb": round(index), "shards_mb": round(shards)}
        result["bars_hold"] = all(result[name] <= bar for name, bar in BARS.items())
        print(json.dumps(result | {"machine": machine(), "load": os.getloadavg()[0]}))
    finally:
        if not asked.folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
