"""Interactions under kill -9: what was finished is kept, nothing is asked for twice."""

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from usersim.engines.scripted import talkative
from usersim.personas.acts import InteractSettings
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.interact import interact
from usersim.personas.scenes import SceneSettings, make_scenes

PLAY = """
import sys
from pathlib import Path
from usersim.engines.scripted import talkative
from usersim.personas.acts import InteractSettings
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.interact import interact
from usersim.personas.scenes import SceneSettings, make_scenes
cast = make_personas(FactorySettings(number=3)).personas
scenes = make_scenes(cast, SceneSettings(each=2))
interact(InteractSettings(concurrency=2), cast, scenes, Path(sys.argv[1]), talkative())
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["journal.inside:9", "journal.commit:20", "file.written:2"])
def test_the_same_call_goes_on_where_a_kill_left_off(tmp_path, point):
    environment = os.environ | {"REALCHAT_FAULT": point}
    killed = subprocess.run(
        [sys.executable, "-c", PLAY, str(tmp_path)], env=environment, capture_output=True,
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    journal = sqlite3.connect(tmp_path / "journal" / "interact.sqlite")
    kept = journal.execute("SELECT count(*) FROM attempt").fetchone()[0]
    journal.close()
    cast = make_personas(FactorySettings(number=3)).personas
    scenes = make_scenes(cast, SceneSettings(each=2))
    interact(InteractSettings(concurrency=2), cast, scenes, tmp_path, rest := talkative())
    interact(InteractSettings(), cast, scenes, tmp_path / "whole", alone := talkative())
    assert kept > 0
    assert kept + rest.calls == alone.calls
    texts = [p.read_text() for p in (tmp_path / "scripts.jsonl", tmp_path / "whole/scripts.jsonl")]
    assert texts[0] == texts[1]
