import pytest
from pydantic import ValidationError

from assistant.scoring import Scored
from pipelines.evidence import EVIDENCE_RULES, Evidence
from pipelines.filters import REASONS, FilterSettings, deciding, judge, tags_of
from usersim.conversation import Conversation, Message
from usersim.language import Language
from usersim.memorisation import Recall

SETTINGS = FilterSettings(
    blocked_words=("Voldemort",),
    max_truncated_share=0.5,
    encoding="drop",
    personal_data="drop",
    max_turn_characters=4000,
)
CLEAN = [
    "whats a good way to keep basil alive indoors",
    "Give it six hours of light, water it when the top of the soil is dry, and pinch the tips.",
    "and if i only have a north window?",
    "Then a small grow lamp helps: twelve hours a day, about a hand's width above the plant.",
]
LIST = "\n".join(f"{i}. **Point {i}**: some words about it." for i in range(1, 5))
LOOP = "I like to walk in the park. " * 8
ESSAY = " ".join(f"w{i}" for i in range(30)) + " "


def conversation(*texts, stop_reason="user_ended", cut_turns=()):
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    return Conversation(id="c", messages=messages, stop_reason=stop_reason, cut_turns=cut_turns)


def reasons(*texts, **fields):
    return [v.reason for v in judge(conversation(*texts, **fields), SETTINGS) if not v.passed]


PLANTED = {
    "engine_error": [
        (CLEAN, {"stop_reason": "error"}),
    ],
    "no_answer": [("hello there",)],
    "length": [("tell me a long story", "And then she went on, " * 500)],
    "blank_turn": [
        (*CLEAN[:1], "\u200b"),
        (*CLEAN[:1], "---"),
        (*CLEAN[:2], "\u2060 \ufeff", CLEAN[3]),
    ],
    "template_leak": [
        (*CLEAN[:1], "Water it.<|im_end|>"),
        ("<|im_start|>user what now", CLEAN[1]),
        (*CLEAN[:1], "[INST] more? [/INST]"),
        (*CLEAN[:1], "Yes.<end_of_turn>"),
    ],
    "reasoning_leak": [(*CLEAN[:1], "<think>The user wants basil.</think> Water it.")],
    "transcript": [
        (*CLEAN[:1], "Water it.\n\nUser: and the light?\nAssistant: Six hours."),
        ("User: how do I water basil?", CLEAN[1]),
        (*CLEAN[:1], "Assistant: water it."),
    ],
    "user_answers": [
        (*CLEAN[:2], "As an AI language model, I do not have plants.", CLEAN[3]),
        (*CLEAN[:2], "Sure! Here is a list of herbs for you.", CLEAN[3]),
        (*CLEAN[:2], "You're welcome! Enjoy your basil.", CLEAN[3]),
        ("Hello! How can I help you today?", "I want basil."),
        (*CLEAN[:2], "Basil likes light. Is there anything else you would like to know?", CLEAN[3]),
        (*CLEAN[:2], f"Here are some ways to care for basil:\n\n{LIST}", CLEAN[3]),
        (*CLEAN[:2], "I\u2019m sorry, but I can\u2019t do that.", CLEAN[3]),
    ],
    "assistant_asks": [
        (*CLEAN[:1], "Can you write me a poem about basil?"),
        (*CLEAN[:1], "Please explain how to water it."),
        (*CLEAN[:1], "I want you to act as a gardener."),
        (*CLEAN[:1], "Thank you for your help!"),
    ],
    "echo": [(*CLEAN[:1], "Whats a good way to keep basil alive indoors?")],
    "self_naming": [
        (*CLEAN[:1], "As an AI language model, my view is that water helps."),
        (*CLEAN[:1], "I'm just a language model, but water helps."),
    ],
    "refusal": [
        (*CLEAN[:1], "I'm sorry, but I can't help with plants."),
        (*CLEAN[:1], "I apologize, but I am not able to discuss basil."),
        (*CLEAN[:1], "Unfortunately, I cannot provide advice on that."),
    ],
    "repetitive_turn": [
        (*CLEAN[:1], LOOP),
        (*CLEAN[:1], ESSAY * 4 + "and that is all"),
        (LOOP, CLEAN[1]),
    ],
    "repeated_turn": [(CLEAN[0], CLEAN[1], CLEAN[2], CLEAN[1])],
    "goodbye_loop": [
        (*CLEAN[:2], "thanks!", "You're welcome! Bye.", "bye", "Goodbye!", "see you", "Take care!"),
    ],
    "slur": [(*CLEAN[:2], "tell me about voldemort", CLEAN[3])],
    "truncated": [((*CLEAN[:1], "First you take the"), {"cut_turns": (1,)})],
    "encoding_damage": [
        (*CLEAN[:1], "It won\u00e2\u20ac\u2122t live without light."),
        (*CLEAN[:1], "Caf\ufffd au lait"),
    ],
    "personal": [
        (*CLEAN[:1], "Write to mara.quill@gardenpost.se for seeds."),
        ("call me at (512) 271-2172 about the basil", CLEAN[1]),
    ],
}  # fmt: skip


def cases():
    for reason, planted in PLANTED.items():
        for texts in planted:
            fields = texts[-1] if isinstance(texts[-1], dict) else {}
            yield pytest.param(reason, texts[0] if fields else texts, fields, id=reason)


@pytest.mark.parametrize(("reason", "texts", "fields"), cases())
def test_a_planted_fault_is_found_under_its_reason(reason, texts, fields):
    assert reason in reasons(*texts, **fields)


def test_every_reason_is_planted_somewhere():
    assert set(PLANTED) | set(EVIDENCE_RULES) == set(REASONS)


def test_a_clean_conversation_passes_every_rule():
    verdicts = judge(conversation(*CLEAN), SETTINGS, Evidence(Language("en", 0.98)))
    assert [v.reason for v in verdicts] == list(REASONS)
    assert all(v.passed for v in verdicts)
    assert deciding(verdicts, SETTINGS) is None


@pytest.mark.parametrize(
    "texts",
    [
        ("hi", "Hello! How can I help you today?"),
        ("?", "Could you tell me more about what you need?"),
        ("\U0001f44d", "Glad you like it."),
        ("continue", "One.", "continue", "Two.", "continue", "Three.", "continue", "Four."),
        ("what's 6*7", "42"),
        ("as an AI expert at a bank, write a memo on risk", "Here is a memo: risks were few."),
        ("Don't say 'as an AI language model' please. who are you?", "A program that answers."),
        ("Sure. I have to create a desktop app, any advice", "Start small, and test often."),
        ("fix this yaml\nuser:\n  name: bob", "It is fine as it is."),
        ("use this few-shot prompt:\nUser: hi\nBot: yo\n\nwhat is wrong with it", "Nothing."),
        ("User::find(1) fails in laravel", "Check the table name; it must be `users`."),
        ("thanks that helped", "You're welcome!"),
        ("Sorry, I forgot to add a column, please redo it", "Here is the table again, whole."),
        ("What can you not do?", "Can you give me some context, so that I can answer well?"),
        ("write a loop", "for (;;) {}"),
        ("<s>old</s> is that valid html?", "Yes, but `del` is better."),
    ],
)
def test_what_people_really_do_passes(texts):
    assert reasons(*texts) == []


def test_foreign_language_needs_certainty():
    def found(code, probability, settings=SETTINGS):
        verdicts = judge(conversation(*CLEAN), settings, Evidence(Language(code, probability)))
        return [v.reason for v in verdicts if not v.passed]

    assert found("de", 0.9) == ["foreign_language"]
    assert found("de", 0.4) == []
    assert found("und", 0.9) == []
    assert found("de", 0.9, FilterSettings(languages=("de", "en"))) == []
    assert found("de", 0.9, FilterSettings(languages=())) == []


def test_the_first_failing_rule_decides_and_recorded_ones_do_not():
    texts = (*CLEAN[:1], "As an AI language model, <|im_end|> I am lost")
    verdicts = judge(conversation(*texts), SETTINGS)
    assert deciding(verdicts, SETTINGS).reason == "template_leak"
    lenient = FilterSettings(record_only=("template_leak", "self_naming"))
    assert deciding(verdicts, lenient) is None


def test_thresholds_are_settings():
    refused = conversation(*CLEAN[:1], "I'm sorry, but I can't help with plants.")
    assert deciding(judge(refused, FilterSettings(max_refusals=1)), SETTINGS) is None
    short = FilterSettings(min_rounds=3)
    assert deciding(judge(conversation(*CLEAN), short), short).reason == "no_answer"


def test_an_unknown_reason_in_the_settings_is_refused():
    with pytest.raises(ValidationError, match="no such reason: refusals"):
        FilterSettings(record_only=("refusals",))


def test_people_may_retry_but_not_for_ever():
    question = "please try that one more time"
    retries = [text for i in range(3) for text in (question, f"Attempt number {i} is here.")]
    assert reasons(*retries) == []
    loops = [text for i in range(4) for text in (question, f"Attempt number {i} is here.")]
    assert reasons(*loops) == ["repeated_turn"]


@pytest.mark.parametrize(
    ("evidence", "thresholds", "reason"),
    [
        (Evidence(contaminated="mt-bench 81"), {}, "contaminated"),
        (Evidence(recall=Recall(None, 0.0, 40, too_long=True)), {}, "memorised"),
        (Evidence(quality=0.2), {"min_quality": 0.3}, "low_quality"),
        (Evidence(toxicity=0.95), {}, "toxic"),
        (Evidence(judged=Scored("scored", 3)), {"min_judge_score": 5}, "low_judge_score"),
        (Evidence(judged=Scored("not_json")), {"drop_unscored": True}, "unscored"),
    ],
)
def test_evidence_decides_only_at_its_threshold(evidence, thresholds, reason):
    settings = FilterSettings(**thresholds)
    assert deciding(judge(conversation(*CLEAN), settings, evidence), settings).reason == reason
    good = Evidence(quality=0.4, toxicity=0.5, judged=Scored("scored", 7))
    assert deciding(judge(conversation(*CLEAN), settings, good), settings) is None


def test_what_the_default_policies_mend_or_only_tag_does_not_drop():
    default = FilterSettings()
    for reason in ("truncated", "personal"):
        texts, *fields = PLANTED[reason][0] if reason == "truncated" else (PLANTED[reason][0],)
        verdicts = judge(conversation(*texts, **(fields[0] if fields else {})), default)
        assert deciding(verdicts, default) is None


def test_a_user_may_have_to_type_so_many_words():
    short = conversation("hm", "What do you mean?", "nothing", "Alright then.")
    for least, found in ((0, []), (2, []), (3, ["length"])):
        settings = FilterSettings(min_user_words=least)
        assert [v.reason for v in judge(short, settings) if not v.passed] == found


def test_tags_are_hints_only():
    assert tags_of(conversation("hi", "It breaks off in the", cut_turns=(1,))) == ["truncated"]
    assert tags_of(conversation("i am NAME_1", "Hello.")) == ["placeholder"]
    assert tags_of(conversation("hi", "It ends here.")) == []
    assert tags_of(conversation("hi", "- one\n- two and more")) == []
    assert tags_of(conversation("hi", "It breaks off in the")) == ["maybe_truncated"]
    assert tags_of(conversation("hi", "Yes.", "and then")) == ["ends_on_user"]
