"""One deduplicator over one file of texts: `python benchmarks/dedup_peers.py NAME TEXTS`.

Runs in any environment that has the library, with the standard library besides. TEXTS holds one
JSON string a line. Prints a JSON line: CPU and wall seconds from texts in memory to kept positions,
how many are kept, and with --claims the pairs that it says are alike. Each peer has the settings
that were fastest and most exact for it: 5-word shingles, 128 hashes (25 x 5 bands where the tool
allows bands that leave three over, else 16 x 8), threshold 0.8, one thread.
"""

import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

Pairs = list[tuple[int, int]]
WORD = re.compile(r"\w+")
WIDTH, HASHES, THRESHOLD = 5, 128, 0.8


def shingled(text: str) -> list[str]:
    """Runs of five words."""
    words = WORD.findall(text.lower())
    if len(words) < WIDTH:
        return [" ".join(words)]
    return list(map(" ".join, zip(*(words[i:] for i in range(WIDTH)), strict=False)))


def realchat(texts: Sequence[str]) -> Pairs:
    """This project: verified pairs."""
    from usersim.neardup import Banding, alike
    from usersim.shingling import Shingling

    found = alike(texts, THRESHOLD, Shingling(WIDTH), Banding(25, 5), HASHES)
    return list(map(tuple, found.pairs.tolist()))


def datasketch(texts: Sequence[str]) -> Pairs:
    """The reference: xxh32 of shingles, affine32 permutations, its LSH; candidates unverified."""
    from datasketch import MinHash, MinHashLSH
    from xxhash import xxh32_intdigest

    lsh = MinHashLSH(num_perm=HASHES, params=(25, 5))
    sets = ([s.encode() for s in set(shingled(text))] for text in texts)
    sketches = MinHash.generator(sets, num_perm=HASHES, hashfunc=xxh32_intdigest, scheme="affine32")
    pairs = []
    for i, sketch in enumerate(sketches):
        pairs += [(j, i) for j in lsh.query(sketch)]
        lsh.insert(i, sketch, check_duplication=False)
    return pairs


def rensa(texts: Sequence[str]) -> Pairs:
    """rensa: token lists to R-MinHash in Rust, its LSH; candidates unverified."""
    from rensa import RMinHash, RMinHashLSH

    sketches = RMinHash.from_token_sets(map(shingled, texts), HASHES, 42)
    lsh = RMinHashLSH(THRESHOLD, HASHES, 16)
    lsh.insert_pairs(list(enumerate(sketches)))
    return [(j, i) for i, found in enumerate(lsh.query_all(sketches)) for j in found if j < i]


def gaoya(texts: Sequence[str]) -> Pairs:
    """gaoya: text in, words, n-grams and index in Rust; pairs whose estimate reaches 0.8."""
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(
        32, THRESHOLD, 25, 5, None, "word", True, (WIDTH, WIDTH), id_container="smallvec"
    )
    index.par_bulk_insert_docs(list(range(len(texts))), list(texts))
    found = index.par_bulk_query(list(texts))
    return [(j, i) for i, others in enumerate(found) for j in others if j < i]


def datatrove(texts: Sequence[str]) -> Pairs:
    """datatrove: signatures and buckets over local files; words split at spaces, not by spaCy."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash as stages
    from datatrove.utils.word_tokenizers import WordTokenizer
    from loguru import logger

    class Spaces(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    logger.remove()
    config = stages.MinhashConfig(n_grams=WIDTH, num_buckets=16, hashes_per_bucket=8)
    with tempfile.TemporaryDirectory() as folder:
        sign = stages.MinhashDedupSignature(f"{folder}/s", config, language=Spaces())
        sign.run((Document(text=text, id=str(i)) for i, text in enumerate(texts)), 0, 1)
        buckets = stages.MinhashDedupBuckets(
            f"{folder}/s", f"{folder}/b", config=config, lines_to_buffer=4096
        )
        for bucket in range(config.num_buckets):
            buckets.run(None, bucket, config.num_buckets)
        return list(_datatrove_pairs(Path(folder, "b")))


def _datatrove_pairs(folder: Path) -> Iterator[tuple[int, int]]:
    import struct

    for path in sorted(folder.glob("*.dups")):
        for _, left, _, right in struct.iter_unpack("<4I", path.read_bytes()):
            yield min(left, right), max(left, right)


def text_dedup(texts: Sequence[str]) -> Pairs:
    """text-dedup: its own embedding function and bucket clusters, without the Spark side."""
    import numpy as np
    from text_dedup.minhash import RNG, SIGNATURE_COLUMN, embed_func
    from text_dedup.utils import xxh3_32hash

    prime, tables = np.uint64((1 << 61) - 1), [defaultdict(list) for _ in range(25)]
    permutations = tuple(RNG.randint(low, prime, HASHES, dtype=np.uint64) for low in (1, 0))
    for i, text in enumerate(texts):
        row = embed_func(
            text, i, num_perm=HASHES, ngram_size=WIDTH, min_length=0, permutations=permutations,
            hashranges=[(b * 5, b * 5 + 5) for b in range(25)], hash_func=xxh3_32hash,
            dtype=np.uint64, max_hash=np.uint32(0xFFFFFFFF), modulo_prime=prime,
        )  # fmt: skip
        for table, band in zip(tables, row[SIGNATURE_COLUMN], strict=True):
            table[band].append(i)
    buckets = [ids for table in tables for ids in table.values() if len(ids) > 1]
    return [(ids[0], other) for ids in buckets for other in ids[1:]]


CONTESTANTS: dict[str, Callable[[Sequence[str]], Pairs]] = {
    f.__name__: f for f in (realchat, datasketch, rensa, gaoya, datatrove, text_dedup)
}
UNION_ONLY = ("datatrove", "text_dedup")  # tell clusters, not pairs


def clusters(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected components with more than one member."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for left, right in pairs:
        one, other = sorted((root(left), root(right)))
        parent[other] = one
    groups = defaultdict(list)
    for i in range(n):
        groups[root(i)].append(i)
    return [group for group in groups.values() if len(group) > 1]


def main(name: str, path: Path, tell_claims: bool) -> None:
    """Measure one contestant."""
    texts = [json.loads(line) for line in path.open(encoding="utf-8")]
    contestant = CONTESTANTS[name]
    few = texts[:20]  # imports, compilation and tables are paid once, not a document
    contestant([*few, *(f"{text} and more" for text in few)])
    cpu, wall = time.process_time(), time.perf_counter()
    pairs = contestant(texts)
    groups = clusters(len(texts), pairs)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    told = {"name": name, "rows": len(texts), "cpu_s": cpu, "wall_s": wall}
    told["kept"] = len(texts) - sum(len(group) - 1 for group in groups)
    if tell_claims:
        union = name in UNION_ONLY
        told["claims"] = [p for g in groups for p in combinations(g, 2)] if union else pairs
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "--claims" in sys.argv)
