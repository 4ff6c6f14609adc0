import pytest

from usersim.errors import InputError, WorldError
from usersim.language import UNDETERMINED, LanguageId, find_model


@pytest.fixture(scope="module")
def identify():
    return LanguageId()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("How do I bake bread without yeast?", "en"),
        ("Wie backe ich ein Brot ohne Hefe?", "de"),
        ("bonjour,\nje voudrais apprendre\rle piano", "fr"),
        ("请帮我写一首关于春天的诗歌", "zh"),
        ("\ud83d please help me with half an emoji", "en"),
    ],
)
def test_language_of_a_text(identify, text, code):
    (language,) = identify.detect([text])
    assert language.code == code
    assert 0.5 <= language.probability <= 1.0


@pytest.mark.parametrize("text", ["", "ok", "???", "12345 67890 3+4=7", "asdf jkl qwer zxcv bnm"])
def test_too_short_or_unsure_is_undetermined(identify, text):
    assert identify.detect([text])[0].code == UNDETERMINED


def test_lists_keep_their_order_whatever_is_skipped(identify):
    texts = ["hm", "What a lovely day it is", "", "Was für ein schöner Tag heute", "x"] * 1000
    assert [language.code for language in identify.detect(texts)] == [
        "und", "en", "und", "de", "und"
    ] * 1000  # fmt: skip
    assert identify.detect([]) == []


def test_limits_are_the_callers():
    strict = LanguageId(min_probability=1.1)
    assert strict.detect(["How do I bake bread without yeast?"])[0].code == UNDETERMINED
    lenient = LanguageId(min_letters=2, min_probability=0.0)
    assert lenient.detect(["ok"])[0].code != UNDETERMINED


def test_a_file_that_is_no_model(tmp_path):
    with pytest.raises(InputError, match=r"lid\.176\.ftz"):
        LanguageId(tmp_path / "missing.ftz")
    (tmp_path / "bad.ftz").write_bytes(b"not a model")
    with pytest.raises(InputError, match="not a fastText model"):
        LanguageId(tmp_path / "bad.ftz")


def test_no_embedded_model_says_what_to_do(monkeypatch):
    monkeypatch.setattr("usersim.language.find_spec", lambda _name: None)
    with pytest.raises(WorldError, match="make setup"):
        find_model()
