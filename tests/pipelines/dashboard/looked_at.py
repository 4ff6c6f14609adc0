"""A run with verdicts, twins and hostile words, and the application over it."""

import json
from pathlib import Path

from made_run import make_run
from starlette.testclient import TestClient

from pipelines.dashboard.web import make_app
from usersim.conversation import Conversation, Message, Rejection
from usersim.files import write_conversations, write_rejections, write_table

XSS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</title></style><style>@import 'https://evil.example/x.css';</style>",
    "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}",
    "javascript:alert(1)//\u202e<script>\u202c \ud800",
]  # fmt: skip


def marked_run(root: Path) -> Path:
    """`made_run` with a third shard of conversations that curation has decided about."""
    import pyarrow as pa

    make_run(root)
    talks = [_talk(i, text) for i, text in enumerate(XSS)]
    talks += [_talk(90, "please mend my rusty bicycle chain today"),
              _talk(91, "please mend my old bicycle chain today")]  # fmt: skip
    write_conversations(root / "conversations" / "part-00002.parquet", talks)
    lost = Rejection.of(
        talks[-1], "near-duplicates", "near_duplicate_opener", "kept=x-90 similarity=0.714"
    )
    refused = Rejection.of(talks[0], "filters", "assistant_refusal", "<b>I cannot</b>")
    write_rejections(root / "rejected" / "curate.parquet", [lost, refused])
    rows = [
        {
            "id": talk.id,
            "dropped_for": None,
            "failed": [],
            "tags": ["<i>code</i>"],
            "language": "de" if number == 2 else "en",
            "language_probability": 0.9,
            "quality": number / 10,
        }
        for number, talk in enumerate(talks)
    ]
    write_table(root / "curated" / "verdicts" / "verdicts.parquet", pa.Table.from_pylist(rows))
    return root


def _talk(number: int, text: str) -> Conversation:
    text = text.encode("utf-8", "ignore").decode()  # Parquet holds no half of a surrogate pair
    return Conversation(
        id=f"x-{number}",
        messages=(Message("user", text), Message("assistant", f"you said {text}")),
        stop_reason="user_ended",
        persona_id=f"<u>{number % 2}</u>",
        assistant_model="<b>model</b>",
    )


def client(root: Path) -> TestClient:
    """A browser without a screen."""
    return TestClient(make_app(root), base_url="http://127.0.0.1:8421", follow_redirects=False)


def unfinished(spoken: str) -> str:
    """A record of a conversation that never came to a round."""
    return json.dumps({"attempts": [{"role": "user", "content": spoken, "refused": "empty"}]})
