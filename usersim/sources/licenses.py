"""Licenses of public corpora, as their publishers state them; whatever is unsure is unstated.

From the dataset cards on the Hub and the projects' repositories. A row's own license and the one
that the recipe names come before these.
"""

from dataclasses import dataclass

from usersim.sources.draft import UNSTATED


@dataclass(frozen=True, slots=True)
class Known:
    """A public corpus: its license, and its names on the Hub (in lower case)."""

    license: str
    hub: tuple[str, ...] = ()
    told_by_layout: bool = True
    """Whether no other corpus has records of this layout, so that the layout names the corpus."""


KNOWN: dict[str, Known] = {
    "wildchat": Known(
        "odc-by", ("allenai/wildchat", "allenai/wildchat-1m", "allenai/wildchat-4.8m")
    ),
    "lmsys": Known("lmsys-chat-1m", ("lmsys/lmsys-chat-1m",)),
    "oasst": Known("apache-2.0", ("openassistant/oasst1", "openassistant/oasst2")),
    # What people wrote is cc-by-4.0, what models answered cc-by-nc-4.0: a row holds both.
    "prism": Known("cc-by-nc-4.0", ("hannahrosekirk/prism-alignment",)),
    "ultrachat": Known(
        "mit", ("stingning/ultrachat", "openbmb/ultrachat", "huggingfaceh4/ultrachat_200k"), False
    ),
    "baize": Known("research-only"),
}
"""By layout. ShareGPT dumps and plain layouts come from anywhere, so nothing is known of them."""


def known_license(layout: str, hub_name: str | None, is_chosen: bool) -> str:
    """The license of a corpus by its name on the Hub, else by its layout, else unstated.

    `is_chosen` says that the caller named the layout, which then stands for its corpus.
    """
    if hub_name is not None:
        named = [k.license for k in KNOWN.values() if hub_name.lower() in k.hub]
        return named[0] if named else UNSTATED
    known = KNOWN.get(layout)
    return known.license if known and (known.told_by_layout or is_chosen) else UNSTATED
