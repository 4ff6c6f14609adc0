"""Deduplication against its peers: `make bench-dedup` prints a JSON line.

The pieces alone: `python -m benchmarks.dedup speed quality scaling`.

Every contestant runs in a process of its own, one thread, in turns; times are CPU seconds from
texts in memory to kept positions (of the three rounds the median; one round, on a tenth of the
texts, for peers that are slower than a third of the fastest). Peers that this environment lacks are
looked for in those that REALCHAT_PEERS names (interpreters, joined by colons): text-dedup and
datatrove move versions that the project needs.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dedup_peers import CONTESTANTS, HASHES, THRESHOLD, WIDTH, clusters
from benchmarks.machine import machine
from usersim.neardup import Banding, alike, candidate_pairs
from usersim.progress import track
from usersim.shingling import Shingling
from usersim.sources import Source, SourceSettings

ROUNDS = 3
BANDING = Banding(25, 5)
PEERS_FILE = Path(__file__).with_name("dedup_peers.py")
EDITS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)  # shares of the words


def conversations() -> list[str]:
    """The embedded ShareGPT conversations, all turns, as texts."""
    found = [draft for draft in Source(SourceSettings()) if hasattr(draft, "messages")]
    return ["\n".join(m.content for m in draft.messages) for draft in found]


def interpreters() -> Iterator[str]:
    """Python, here and where the peers are."""
    yield sys.executable
    yield from filter(None, os.environ.get("REALCHAT_PEERS", "").split(":"))


def home_of(name: str) -> str | None:
    """The first interpreter that has the library."""
    module = "usersim" if name == "realchat" else name
    for python in interpreters():
        known = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
        if known.returncode == 0:
            return python
    return None


def measured(name: str, path: Path, *flags: str) -> dict[str, Any]:
    """What a contestant says of itself, run alone; the reason when it fails."""
    python = home_of(name)
    if python is None:
        return {"name": name, "missing": "not installed"}
    one = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    done = subprocess.run(
        [python, str(PEERS_FILE), name, str(path), *flags],
        env=os.environ | one, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"name": name, "missing": done.stderr.strip().splitlines()[-1][:200]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def written(texts: Sequence[str], path: Path) -> Path:
    """The texts as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
    return path


def speed(texts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Median CPU seconds of every contestant, in turns."""
    few = written(texts[: len(texts) // 10], folder / "few.jsonl")
    everything = written(texts, folder / "all.jsonl")
    first = {name: measured(name, few) for name in CONTESTANTS}
    rates = {n: told["rows"] / told["cpu_s"] for n, told in first.items() if "cpu_s" in told}
    fastest = max(rate for name, rate in rates.items() if name != "realchat")
    quick = [name for name, rate in rates.items() if rate > fastest / 3]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in quick}
    with track("bench-dedup", ROUNDS * len(quick), "runs") as bar:
        for _ in range(ROUNDS):
            for name in quick:
                runs[name].append(measured(name, everything))
                bar.advance()
    medians = {
        name: found[0] | {"cpu_s": statistics.median(run["cpu_s"] for run in found)}
        for name, found in runs.items()
    }
    return first | medians


def planted(texts: Sequence[str], size: int = 5000) -> list[str]:
    """Documents of 60 to 400 words, each original followed by copies of which words are edited."""
    draw, made = random.Random(5), list[str]()
    sources = [words for words in (text.split()[:400] for text in texts) if len(words) >= 60]
    vocabulary = [word for words in sources[:200] for word in words]
    draw.shuffle(sources)
    for words in sources[: -(-size // (len(EDITS) + 1))]:
        made.append(" ".join(words))
        for share in EDITS:
            edited = list(words)
            for _ in range(round(share * len(words))):
                edited[draw.randrange(len(words))] = draw.choice(vocabulary)
            made.append(" ".join(edited))
    return made[:size]


def true_pairs(texts: Sequence[str]) -> dict[tuple[int, int], float]:
    """All pairs at the threshold, by counting what each two sets share: no sketch, no band."""
    sets = Shingling(WIDTH).sets(texts)
    owners = np.repeat(np.arange(len(texts)), sets.sizes)
    values = np.concatenate([sets[i] for i in range(len(texts))])
    order = np.argsort(values, kind="stable")
    owners, values = owners[order], values[order]
    shared: dict[tuple[int, int], int] = {}
    for group in np.split(owners, np.flatnonzero(np.diff(values)) + 1):
        ids = group.tolist()
        for place, right in enumerate(ids):
            for left in ids[:place]:
                shared[left, right] = shared.get((left, right), 0) + 1
    size = sets.sizes.tolist()
    scores = {(i, j): n / (size[i] + size[j] - n) for (i, j), n in shared.items()}
    return {pair: score for pair, score in scores.items() if score >= THRESHOLD}


def quality(texts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Recall, precision and false removals of every contestant's claims."""
    documents = planted(texts)
    path, truth = written(documents, folder / "planted.jsonl"), true_pairs(documents)
    rows = {}
    for name in CONTESTANTS:
        told = measured(name, path, "--claims")
        if "claims" in told:
            rows[name] = judged({tuple(pair) for pair in told["claims"]}, truth, len(documents))
    return {"documents": len(documents), "true_pairs": len(truth), "by": rows}


def judged(claims: set[Any], truth: dict[tuple[int, int], float], size: int) -> dict[str, float]:
    """Texts with the same set are linked by us to the first alone: pairs count by that link too."""
    same = [pair for pair, score in truth.items() if score == 1.0]
    first = {i: group[0] for group in clusters(size, same) for i in group}
    to_first = [tuple(sorted((first.get(i, i), first.get(j, j)))) for i, j in truth]
    linked = claims | {(i, i) for i in range(size)}
    found = sum(
        pair in claims or short in linked for pair, short in zip(truth, to_first, strict=True)
    )
    alike_to_kept, removed = set(), set()
    for group in clusters(size, claims):
        removed |= set(group[1:])
    for i, j in truth:
        alike_to_kept |= ({i} if j not in removed else set()) | ({j} if i not in removed else set())
    return {
        "pair_recall": round(found / len(truth), 4),
        "precision": round(sum(pair in truth for pair in claims) / max(len(claims), 1), 4),
        "removed": len(removed),
        "false_removals": len(removed - alike_to_kept),
    }


def identical(texts: Sequence[str]) -> bool:
    """Whether the same signatures give the same candidate pairs as datasketch's LSH."""
    from datasketch import MinHashLSH

    from usersim.shingling import minhash

    signatures = Shingling(WIDTH).sketches(texts, HASHES).signatures
    lsh, found = MinHashLSH(num_perm=HASHES, params=(25, 5)), set()
    for i, signature in enumerate(signatures):
        sketch = minhash(signature)
        found |= {(other, i) for other in lsh.query(sketch)}
        lsh.insert(i, sketch, check_duplication=False)
    return found == set(map(tuple, candidate_pairs(signatures, BANDING).tolist()))


def scale_rows(texts: Sequence[str], size: int) -> list[str]:
    """Rows of 100 words: ten pieces of ten words each; every tenth is an edited copy of another."""
    draw = random.Random(size)
    words = [word for text in texts[:3000] for word in text.split()]
    made: list[str] = []
    for i in range(size):
        if i % 10 == 9:
            made.append(made[draw.randrange(i)] + " indeed")
            continue
        starts = [draw.randrange(len(words) - 10) for _ in range(10)]
        made.append(" ".join(" ".join(words[start : start + 10]) for start in starts))
    return made


def scaling(texts: Sequence[str], sizes: Sequence[int]) -> list[dict[str, float]]:
    """CPU seconds and memory (beyond the texts) by number of rows."""
    alike(texts[:50] * 2, THRESHOLD, Shingling(WIDTH), BANDING, HASHES)  # compiled
    rows = []
    for size in sizes:
        made = scale_rows(texts, size)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
        before, start = memory("VmRSS"), time.process_time()
        pairs = len(alike(made, THRESHOLD, Shingling(WIDTH), BANDING, HASHES).pairs)
        seconds = time.process_time() - start
        rows.append({
            "rows": size, "cpu_s": round(seconds, 3), "pairs": pairs,
            "us_per_row": round(seconds / size * 1e6, 2),
            "peak_bytes_per_row": round((memory("VmHWM") - before) / size),
        })  # fmt: skip
        del made
    return rows


def memory(name: str) -> int:
    """Bytes that this process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def compared(texts: Sequence[str]) -> dict[str, Any]:
    """Every contestant's speed, and ours beside the fastest peer's."""
    with tempfile.TemporaryDirectory() as name:
        told = speed(texts, Path(name))
    rates = {n: row["rows"] / row["cpu_s"] for n, row in told.items() if "cpu_s" in row}
    peers = {name: rate for name, rate in rates.items() if name != "realchat"}
    fastest = max(peers, key=lambda name: peers[name])
    return {
        "end_to_end_docs_per_s_per_core": round(rates["realchat"]),
        "times_fastest_peer": round(rates["realchat"] / peers[fastest], 2),
        "fastest_peer": fastest,
        "docs_per_s": {name: round(rate) for name, rate in rates.items()},
        "rows_measured": {name: told[name]["rows"] for name in rates},
        "missing": {n: row["missing"] for n, row in told.items() if "missing" in row},
        "identical_to_datasketch": identical(texts),
    }


def quality_in_turn(texts: Sequence[str]) -> dict[str, Any]:
    """Every contestant's claims judged."""
    with tempfile.TemporaryDirectory() as name:
        return {"quality": quality(texts, Path(name))}


PIECES: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "speed": compared,
    "quality": quality_in_turn,
    "scaling": lambda texts: {"scaling": scaling(texts, (10_000, 100_000, 1_000_000))},
}


def main(names: Sequence[str]) -> None:
    """Measure the named pieces, or all, and print one JSON line."""
    texts = conversations()
    told: dict[str, Any] = {"benchmark": "dedup", "documents": len(texts)}
    told["mean_bytes"] = round(statistics.mean(len(t.encode()) for t in texts))
    for name in names or PIECES:
        told |= PIECES[name](texts)
        print(name, json.dumps(told), file=sys.stderr)
    print(json.dumps(told | {"machine": machine()}))


if __name__ == "__main__":
    main(sys.argv[1:])
