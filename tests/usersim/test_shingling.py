import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usersim.shingling import Shingling, words

WORDS = [
    "how",
    "Do",
    "I",
    "straße",
    "İstanbul",
    "ﬁne",
    "ŉ",
    "ΐ",
    "Ⅷ",
    "x²",
    "don't",
    "_a",
    "é",
    "é",
    "你好世界",
    "カタカナ",
    "한국어",
    "ภาษาไทย",
    "हिन्दी",
    "עברית",
    chr(0x1D518) + "nicode",
    "𠀀𠀁",
    "😀",
    "�",
    "…",
    "\x00",
    "・",
    "١٢٣",
]
SCRIPTS = st.sampled_from(WORDS)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(categories=["L", "M", "N", "P", "Z", "Cs"]), max_size=40),
    st.lists(SCRIPTS, max_size=12).map(" ".join),
    st.lists(SCRIPTS, max_size=6).map("".join),
)
MASK = (1 << 64) - 1


def mixed(value):
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & MASK
    return value ^ value >> 33


def hashed(word):
    value = 0xCBF29CE484222325
    for character in word:
        value = (value ^ ord(character)) * 0x100000001B3 & MASK
    return mixed(value)


def plain_words(text):
    """What words are, said a second time and slowly: Python's own folding, one pattern."""
    alone = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
    return re.findall(rf"[{alone}]|[^\W{alone}]+", text.casefold())


def plain_hashes(text, width):
    found = [hashed(word) for word in plain_words(text)] or [hashed(text.casefold().strip())]
    runs = [found[i : i + width] for i in range(max(len(found) - width, 0) + 1)]
    odd = 0x9E3779B97F4A7C15
    return {sum(h * odd**place for place, h in enumerate(run)) & MASK for run in runs}


def plain_signature(text, width, num_perm):
    """The path that datasketch documents: one `update` a shingle."""
    sketch = MinHash(num_perm, seed=1, hashfunc=int, scheme="affine32")
    for value in plain_hashes(text, width):
        sketch.update(value & 0xFFFFFFFF)
    return sketch.hashvalues


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=5), st.sampled_from([1, 2, 3, 5]))
@example(["", " ", "a", "???", "\ud83d", "İ", "ﬃ ŉ", "you, YOU", "你好", "ab" * 300], 3)
def test_the_compiled_path_equals_the_plain_one(texts, width):
    shape = Shingling(width)
    found = shape.sets(texts)
    assert [set(found[i].tolist()) for i in range(len(texts))] == [
        plain_hashes(text, width) for text in texts
    ]
    values = shape.sketches(texts, 32).signatures
    assert values.tolist() == [plain_signature(text, width, 32).tolist() for text in texts]


def test_every_character_is_folded_and_classified_as_python_does():
    # Each between two letters, so that letters, separators and characters alone all differ.
    points = [i for i in range(0x110000) if i % 16 == 0 or i < 0x3200 or 0xA640 < i < 0x10000]
    text = "\n".join(f"a{chr(i)}b" for i in points)
    assert set(Shingling(1).hashes(text).tolist()) == set(map(hashed, set(plain_words(text))))


@given(TEXTS)
def test_words_are_the_plain_ones(text):
    assert words(text) == plain_words(text)


@given(TEXTS, TEXTS)
def test_contents_are_equal_for_equal_words_only(one, other):
    contents = Shingling(3).sketches([one, other, f" {one.upper()}!"], 2).contents.tolist()
    normal = [words(text) or [text.casefold().strip()] for text in (one, other, f" {one.upper()}!")]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (contents[i] == contents[j]) == (normal[i] == normal[j])


def test_runs_of_words_without_case_and_punctuation():
    found = Shingling(3).shingles("Write a poem, please!")
    assert found == {"write a poem", "a poem please"}


def test_short_texts_are_one_shingle_and_do_not_collide():
    shingling = Shingling(5)
    assert shingling.shingles("thank you") != shingling.shingles("thanks a lot")
    assert shingling.shingles("Thank you!") == shingling.shingles("thank you")


@pytest.mark.parametrize("text", ["???", "\U0001f600", "", "\ud83d"])
def test_texts_without_words_are_themselves(text):
    assert Shingling().shingles(f" {text}\n") == {text}
    assert len(Shingling().hashes(text)) == 1


def test_scripts_without_spaces_count_characters():
    assert len(Shingling(3).shingles("你好世界吗")) == 3
    assert len(Shingling(3).shingles("ภาษาไทย")) == 5


@given(TEXTS)
def test_hashes_are_as_many_as_shingles(text):
    assert len(Shingling(2).hashes(text)) == len(Shingling(2).shingles(text))


def test_signatures_do_not_depend_on_company_and_survive_very_long_texts():
    draw = random.Random(1)
    long = " ".join(f"w{draw.randrange(10**6)}" for _ in range(20_000))
    shape = Shingling()
    together = shape.sketches(["hi there", long, *["x"] * 600]).signatures
    assert (together[1] == shape.sketches([long]).signatures[0]).all()
    assert (together[601] == shape.sketches(["x"]).signatures[0]).all()
    assert shape.sketches([], 32).signatures.shape == (0, 32)
    assert np.array_equal(together[1], plain_signature(long, 5, 128))


def test_without_a_folder_for_compiled_code_it_is_compiled_for_the_process(tmp_path):
    code = (
        "from usersim import shingle_kernel\n"
        "print(int(shingle_kernel.mixed(shingle_kernel._START)))\n"
    )
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
    environment = os.environ | nowhere
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == mixed(0xCBF29CE484222325)
