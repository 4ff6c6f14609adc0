"""The documents are true: verbs, targets and links in them exist."""

import re
from pathlib import Path

import pytest
import typer

from pipelines.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
VERBS = set(typer.main.get_command(app).commands)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_named_exists(page):
    text = page.read_text(encoding="utf-8")
    text = re.sub(
        r"^```text\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL
    )  # what models said
    code = "\n".join(re.findall(r"`[^`]+`|^ {4,}.*$", text, re.MULTILINE))
    verbs = set(re.findall(r"\brealchat ([a-z][a-z-]+)\b", code))
    assert verbs <= VERBS
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)\b", code)) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert missing == []


def test_the_readme_names_every_stage():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    from pipelines.stage_table import STAGES

    assert [s.verb for s in STAGES if f"`realchat {s.verb}`" not in text] == []
