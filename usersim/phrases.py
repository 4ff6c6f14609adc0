"""The wordings that guards and filters look for, as patterns, with what they must not catch.

One set for both: a guard refuses a turn while it is made, a filter a conversation when it is whole.
English only: a conversation in another language passes these rules untouched.
"""

import re

from usersim.shingling import word_hash


def _any(*wordings: str) -> re.Pattern[str]:
    """One of the wordings, in any case; an apostrophe stands for the curly one too."""
    return re.compile("|".join(wordings).replace("'", r"['\u2019]"), re.IGNORECASE)


def _begins(*wordings: str) -> re.Pattern[str]:
    """A text that begins with one of the wordings."""
    return _any(f"^(?:{'|'.join(wordings)})")


_INVISIBLE = r"\s\x00-\x1f\x7f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff"
VISIBLE = re.compile(rf"[^{_INVISIBLE}]")
# Letters, digits, symbols of arithmetic, and whatever is not ASCII (emoji, other scripts' signs).
READABLE = re.compile(rf"[^\W_]|[$%&+=<>]|[^\x00-\x7f{_INVISIBLE}]")

# Tokens of ChatML, Llama 2 and 3, Gemma, Mistral, Phi, DeepSeek. Not `</s>`: it is HTML too.
TEMPLATE_TOKEN = re.compile(
    r"<\|[a-z][a-z_0-9]*\|>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|<\uff5c[^>]{1,30}\uff5c>"
)
REASONING_TAG = _any(r"</?(?:think|thinking|reasoning|scratchpad)>")

# Capitalised labels only: `user:` in lower case is YAML, code and JSON. A label is followed by a
# blank or the line's end, so `User::User` is none.
SPEAKER_LABEL = re.compile(
    r"^[ \t>]*(?:#{2,3} ?)?(?:\*\*)?(User|USER|Human|HUMAN|Assistant|ASSISTANT|AI|ChatGPT|Bot)"
    r"(?:\*\*)?:(?:\*\*)?(?=\s|$)",
    re.MULTILINE,
)
LABEL = re.compile(r"(?:User|USER|Human|HUMAN|Assistant|ASSISTANT|AI|ChatGPT|Bot)(?:\*\*)?:")
"""What every speaker label holds."""

USER_LABELS = frozenset({"user", "human"})

_MODEL = (
    r"an? (?:text-based |virtual |conversational )?(?:computer program\b|AI\b(?: language)?|"
    r"artificial intelligence\b(?: language)?|(?:large )?language)"
    r"(?: model| assistant| chatbot)?\b(?! expert| engineer| teacher)"
)
SELF_NAMING = _any(rf"\b(?:as|being) {_MODEL}", rf"\bI(?:'m| am)(?: just| only| simply)? {_MODEL}")

_SORRY = r"(?:(?:I(?:'m| am)(?: really| very| so)? )?sorry|(?:I )?apologi[sz]e)"
_CANNOT = (
    r"(?:I (?:can't|cannot|can not|am (?:not able|unable|not programmed)|won't|will not be able|"
    r"(?:do not|don't) have (?:access|the ability)|(?:could not|couldn't) (?:fulfil|comply|assist))"
    r"|I'm (?:not able|unable)|(?:do not|don't) have (?:access|the (?:ability|capability)))"
)
_HELP = r"(?:assist|help|provide|fulfil|comply|engage|generate|create|browse|access|support)"
REFUSAL = _any(
    rf"^\W*{_SORRY}[^.!?\n]{{0,80}}\b{_CANNOT}",
    r"^\W*(?:no\W+|unfortunately,? |sorry,? |due to [^.!?\n]{0,40}, )"
    r"I(?:'m| am) (?:unable|not able) to\b",
    r"^\W*I(?:'m| am) (?:unable|not able) to\b",
    r"^\W*I (?:won't|will not) (?:write|help|do|provide|share|give|create|assist|answer)\b",
    r"^\W*(?:that|this|it)(?:'s| is)n?(?:'t| not)? (?:not )?something I (?:can|am|feel)\b",
    r"^[^.!?\n]{0,60}\bagainst my (?:guidelines|policy|policies|programming|principles)\b",
    r"^\W*no\W+I (?:can't|cannot)\W",
    rf"^\W*(?:unfortunately,? )?{_CANNOT}\b[^.!?\n]{{0,30}}\b{_HELP}",
)

# The user in the assistant's voice. Anchored at the start, or a wording that people do not use to
# a machine; what matches among real people is nearly all pasted answers.
USER_NAMES_ITSELF = _any(rf"(?:^|[.!?\n]\s*|sorry,? but )as {_MODEL},? I\b")
ASSISTANT_OPENING = _begins(
    r"\W*(?:great|excellent) question[!.]",
    rf"\W*I(?:'m| am) (?:just )?{_MODEL}",
    r"\W*(?:sure|certainly|of course|absolutely)(?: thing)?[!,.]+ ?here(?:'s| is| are)\b",
    r"\W*(?:sure|certainly|of course|absolutely)(?: thing)?[!,.]+ ?I"
    r"(?:'d be|'ll| would be| will| can) (?:happy|glad|help|assist|explain|provide|give you)\b",
    r"\W*you(?:'re| are) (?:very |most )?welcome\b",
    r"\W*(?:hello|hi|hey)?\W*how (?:can|may) I (?:help|assist) you",
    r"\W*(?:hello|hi|hey)?\W*what can I (?:help|do for) you",
    rf"\W*{_SORRY},? but (?:{_CANNOT}|as an AI)",
    r"\W*I apologi[sz]e for (?:the|any|my) (?:confusion|mistake|error|inconvenience)",
    r"\W*I(?:'d| would) be (?:happy|glad) to (?:help|assist)\b",
    r"\W*I(?:'m| am)(?: always)? (?:happy|glad|here) to (?:help|assist)\b",
)
CLOSING_OFFER = _any(
    r"is there anything else (?:I can|you(?:'d| would) like)[^\n]{0,80}$",
    r"how (?:else )?(?:can|may) I (?:help|assist) you[^\n]{0,20}$",
    r"let me know if you have any (?:other|more|further)[^\n]{0,80}$",
    r"let me know if you need (?:any )?(?:further|more|other|anything)[^\n]{0,80}$",
    r"(?:I hope (?:this|that) helps|feel free to (?:ask|reach out))[^\n]{0,80}$",
)
LISTED_ANSWER = _begins(
    r"(?:here (?:are|is)|there are (?:several|many|a few|some)|some (?:of the )?\w+)"
    r"[^\n?]{0,160}:\s*\n+(?:\s*(?:\d+[.)]|[-*\u2022])\s[^\n]+\n*){3}"
)
REQUEST = _any(
    r"\?",
    r"\b(?:please|pls|can you|could you|i want|i need|i would like|help me|based on|using)\b",
)

# The assistant in the user's voice. Questions back ("Could you tell me more about ...?", "Can you
# please provide more context?") are good answers and are not caught.
_WORK = (
    r"(?:write|rewrite|explain|summari[sz]e|translate|make(?! sure)|create|generate|list|show me|"
    r"give me(?! (?:some|more|any|an example|a bit|the (?:text|details?|context)))|"
    r"help me|tell me (?:how|what|why|a)\b(?! you| your| kind| type| specific))"
)
ASSISTANT_AS_USER = _any(
    rf"^\W*(?:can|could|would|will) you (?:please )?{_WORK}",
    rf"^\W*please {_WORK}",
    r"^\W*(?:please )?(?:explain to|tell) me\b(?! more)",
    r"^\W*I want you to\b",
    r"^\W*how (?:do|can|should) I\b(?! help| assist| know)",
    r"^\W*(?:thanks|thank you)(?: so much| very much)? for (?:your|the) "
    r"(?:help|answer|explanation|advice|suggestions?|tips)\b",
)

FAREWELL = _any(
    r"^\W*(?:(?:ok|okay|great|alright)\W+)?(?:thanks?\b|thank you|thx\b)",
    r"^\W*(?:(?:ok|okay|great|alright)\W+)?(?:bye\b|good ?bye|see you|take care)",
    r"^\W*(?:you(?:'re| are) (?:very |most )?welcome|my pleasure|no problem|you too|anytime)",
    r"^\W*(?:have a (?:great|good|nice|wonderful)|(?:I'm )?glad I could help)",
)

# A sentence, code, a table, an emoji or a list item: what an answer that was not cut off ends in.
WHOLE_ENDING = re.compile(
    r"""[.!?:;)\]}"'`*>|\u3002\uff01\uff1f\u201d\u2019\u2026]\s*$|[^\x00-\u218f]\s*$|"""
    r"""(?:^|\n)[ \t]*(?:[-*\u2022]|\d+[.)])[ \t][^\n]*\s*$"""
)

_SIGNS_AT_ENDS = frozenset(".!?:;)]}\"'`*>|\u3002\uff01\uff1f\u201d\u2019\u2026")

SLURS = frozenset(
    {
        0x149f71ce81db12fe, 0x3487b91d5d33ed3d, 0x592f52193c4880a9, 0x6672f064369caae2,
        0x68526e0434de8962, 0x922bf9fc9b3365e1, 0xaf71188f63ebecf0, 0xb57293ce1d1a5e9d,
        0xb7d2a8d8487cdac9, 0xbae3f80632edfd08, 0xd1cc71e58c9e2bb0, 0xd4146f160cdebc6f,
        0xdd1aba41bd02a11f, 0xe3483c9e6cec8fea, 0xe41a0d81bac62f24, 0xe724224129920d32,
    }
)  # fmt: skip
"""Hashes (`shingling.word_hash`) of English slurs without an ordinary second meaning, and plurals.

Eight of them, so that the list can be shipped without printing them. Plain rudeness is not on it. A
floor, not a toxicity filter: one in 40 openers of a 135M simulator held one.
"""

_FAREWELL_WORDS = 25  # a longer turn that thanks is still about something


def ends_whole(text: str) -> bool:
    """Whether a text ends as if it was not cut off."""
    end = text[-400:]
    return end.rstrip()[-1:] in _SIGNS_AT_ENDS or WHOLE_ENDING.search(end) is not None


def is_refusal(text: str) -> bool:
    """Whether an answer refuses; only its beginning counts."""
    return REFUSAL.search(text[:200]) is not None


def is_farewell(text: str) -> bool:
    """Whether a short turn does nothing but thank, welcome, or say goodbye."""
    return FAREWELL.search(text) is not None and len(text.split()) <= _FAREWELL_WORDS


def assistant_voice(text: str, at_start: bool = False) -> str | None:
    """The wording by which a user's turn speaks as an assistant does, or None.

    An opener (`at_start`) may close with an offer: people paste letters.
    """
    found = ASSISTANT_OPENING.match(text) or USER_NAMES_ITSELF.search(text)
    if not found and not at_start:
        found = CLOSING_OFFER.search(text[-200:])
    return found[0].strip()[:80] if found else None


def is_slur(word: str) -> bool:
    """Whether a lower-case word is on the built-in list."""
    return word_hash(word) in SLURS
