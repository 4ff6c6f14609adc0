"""A run folder such as a whole run leaves behind, with words of its own, made in a moment."""

import json
import random
from pathlib import Path

from usersim.conversation import Conversation, Message, Rejection
from usersim.files import write_conversations, write_json, write_rejections, write_text

STARTS = (
    "how do i", "can you write", "What is the", "explain why my", "I need a", "please help with",
    "give me ten", "is it true that", "Write a short", "compare two kinds of", "why does the",
)  # fmt: skip
THINGS = (
    "bicycle chain", "sourdough starter", "spreadsheet of rents", "tax letter", "python loop",
    "night train", "letter to a landlord", "balcony garden", "choir rehearsal", "wool blanket",
    "quarterly report", "paper boat", "birthday speech", "rusty hinge",
)  # fmt: skip
TAILS = (
    "so that it lasts", "in plain words", "?", "before friday", "for a beginner", "thanks!",
    "and say what it costs", "without buying anything", "", "in two paragraphs please",
)  # fmt: skip
ANSWERS = (
    "Begin with the part that you can see, clean it, and look again before you change anything.",
    "There are two ways. The first is cheaper, the second lasts longer; most take the first.",
    "Here is a short version that you can send as it is.",
    "It depends on the weather and on how much time you have. An hour is enough for most of it.",
)


def typed(rng: random.Random, mean_length: float) -> str:
    """A user turn; lengths are spread as people's are, a few very long."""
    text = f"{rng.choice(STARTS)} {rng.choice(THINGS)} {rng.choice(TAILS)}".strip()
    extra = int(rng.lognormvariate(mean_length, 1.1)) - 6
    if extra < -3:
        return rng.choice(("go on", "ok", "shorter", "why?", "continue", "thank you"))
    return " ".join([text, *(rng.choice(THINGS) for _ in range(extra // 2))])


def talks(name: str, count: int, max_rounds: int, **lineage) -> list[Conversation]:
    """Conversations of 1 to `max_rounds` rounds, always the same for one name."""
    rng = random.Random(name)
    made = []
    for number in range(count):
        rounds = min(max_rounds, 1 + int(rng.expovariate(0.5)))
        spread = 2.1 if lineage else 2.4
        pairs = [
            (Message("user", typed(rng, spread)), Message("assistant", rng.choice(ANSWERS)))
            for _ in range(rounds)
        ]
        stop = "max_rounds" if lineage and rounds == max_rounds else "user_ended"
        messages = tuple(message for pair in pairs for message in pair)
        identity = f"{name}-{number:04d}"
        made.append(Conversation(id=identity, messages=messages, stop_reason=stop, **lineage))
    return made


def stage(name: str, num_in: int, unit: str = "conversations", **reasons: int) -> dict:
    """A funnel stage as in metrics.json."""
    lost = sum(reasons.values())
    counts = {"in": num_in, "kept": num_in - lost, "rejected": lost, "reasons": reasons}
    return {"stage": name, "unit": unit} | counts


def interval(mean: float, half: float) -> dict:
    """A mean with its interval."""
    return {"mean": mean, "low": round(mean - half, 4), "high": round(mean + half, 4)}


def perplexities(*values: float) -> dict:
    """Perplexity with its interval, and by turn."""
    return dict(zip(("all", "low", "high", "first", "later"), values, strict=True))


def curated() -> dict:
    """What curation did: its funnel, tokens and gate's figures."""
    return {
        "in": 240,
        "kept": 219,
        "kept_share": 0.9125,
        "funnel": [
            stage("filters", 240, assistant_refusal=9, role_confusion=5),
            stage("exact duplicates", 226, same_opener=2),
            stage("near-duplicates", 224, similar_conversation=5),
        ],
        "tokens": {"in": 51234, "dropped": 3781},
        "before_after": {"after": {"duplicates": 0.021, "personal_data": 0.0}},
    }


def student(losses: list) -> dict:
    """What training on the corpus did to held-out losses."""
    return {
        "base": "other-270m",
        "loss": {
            "real": {
                "before": interval(2.3124, 0.09),
                "after": interval(2.3611, 0.09),
                "difference": interval(0.0487, 0.0121),
                "conversations": 40,
            },
            "simulated": {
                "before": interval(1.8413, 0.07),
                "after": interval(1.5237, 0.06),
                "difference": interval(-0.3176, 0.031),
                "conversations": 22,
            },
        },
        "training": {"tokens_per_s": 171.8, "losses": losses},
    }


def metrics() -> dict:
    """What metrics.json holds at the end of a run; no two figures of it are alike."""
    losses = [[2000 * k, round(2.9 + 0.5 * 0.8**k, 4)] for k in range(1, 25)]
    return {
        "ingest": {
            "funnel": [
                stage("read", 17672, "records", empty_conversation=126, truncated_json=1),
                stage("clean", 9457, prompt_template=33, search_template=102, no_answer=38),
                stage("language", 9284, other_language=65, unknown_language=12),
                stage("openers", 9207, same_opener=577, similar_opener=221),
            ],
            "people": {"stop_reasons": {"cut": 143, "user_ended": 8217}},
        },
        "user_model": {
            "base": "small-135m-instruct",
            "perplexity": {
                "before": 20.437,
                "after": 16.912,
                "change": -0.1725,
                "nll_difference": interval(-0.189, 0.012),
                "detail": {
                    "before": perplexities(20.437, 18.9, 22.1, 28.2, 15.6),
                    "after": perplexities(16.912, 15.8, 18.3, 22.7, 13.2),
                },
                "conversations": 40,
            },
            "training": {"tokens_per_s": 341.5, "losses": losses},
        },
        "simulate": {
            "planned": 243,
            "conversations": 240,
            "rejected_reasons": {"bad_turn": 3},
            "rounds_mean": 2.134,
            "tokens_per_s": {"user": 61.73, "assistant": 187.31},
            "stop_reasons": {"user_ended": 171, "max_rounds": 58, "repetition": 11},
            "guards": {"user:near_duplicate_opener": 17, "assistant:empty": 4},
            "cache_hit_rate": 0.837,
        },
        "curate": curated(),
        "corpus": {"conversations": 219, "license": "unknown"},
        "assistant": student(losses[:6]),
        "timing": {"ingest_s": 19.3, "train_user_s": 181.2, "simulate_s": 243.8, "curate_s": 4.6,
                   "corpus_s": 0.9, "train_assistant_s": 122.4},
        "versions": {"python": "3.11.7", "realchat": "0.1.0", "torch": "2.13.0+cpu"},
        "machine": {"cpu": "A processor", "cores": 2, "memory_gib": 23.5, "gpu": []},
    }  # fmt: skip


RECIPE = """name: made
models:
  user: small-135m-instruct
  assistant: small-135m-instruct
  student: other-270m
"""


def make_run(root: Path, license: str = "") -> Path:
    """The whole run folder."""
    lineage = {"assistant_model": "small-135m-instruct", "source": "realchat", "license": license}
    simulated = talks("simulated", 240, 4, **lineage)
    kept, lost = simulated[:219], simulated[219:]
    write_json(root / "metrics.json", metrics())
    write_text(root / "recipe.yaml", RECIPE)
    write_conversations(root / "people" / "test.parquet", talks("people", 300, 30))
    write_conversations(root / "conversations" / "part-00000.parquet", simulated[:150])
    write_conversations(root / "conversations" / "part-00001.parquet", simulated[150:])
    write_conversations(root / "curated" / "part-00000.parquet", kept)
    reasons = ("assistant_refusal", "role_confusion", "similar_conversation")
    rejected = [
        Rejection.of(c, "filters", reasons[i % 3], "turn 2 says so") for i, c in enumerate(lost)
    ]
    write_rejections(root / "rejected" / "curate.parquet", rejected)
    attempts = [{"role": "user", "content": "user user user", "refused": "repetition"}]
    record = json.dumps({"id": "simulated-0240", "attempts": attempts})
    unfinished = Rejection("simulated-0240", "simulate", "bad_turn", "no opener in 8", record)
    write_rejections(root / "rejected" / "simulate.parquet", [unfinished])
    return root
