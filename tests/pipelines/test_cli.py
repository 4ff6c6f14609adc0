"""Every verb with bad input: one clear message, the right exit code, never a traceback."""

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.run_folder import RunFolder
from pipelines.stage_table import STAGES

VERBS = [stage.verb for stage in STAGES]
SCRIPTED = [
    "engines.user.kind=scripted",
    "engines.user.model=talkative",
    "engines.user.opens=user",
    "engines.assistant.kind=scripted",
    "engines.assistant.model=talkative",
    "curate.filters.languages=[]",
]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def realchat(*arguments: str) -> tuple[int, str]:
    """Exit code, and stdout and stderr together."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def refused(*arguments: str) -> str:
    code, output = realchat(*arguments)
    assert code == 2, output
    assert output.count("realchat: ") == 1, output
    return output


def people_file(path: Path, number: int = 40) -> Path:
    """ShareGPT records of as many short conversations."""
    records = [
        {
            "id": f"talk{i}_0",
            "conversations": [
                {"from": "human", "value": f"Please tell me how number {i} becomes {i * i + 7}."},
                {
                    "from": "gpt",
                    "value": f"The number {i} grows by steps of {i + 3} until it stops.",
                },
            ],
        }
        for i in range(number)
    ]
    path.write_text(json.dumps(records))
    return path


@pytest.mark.parametrize("verb", ["run", *VERBS])
class TestEveryVerb:
    def test_a_recipe_that_is_not_there(self, verb):
        assert "no recipe nowhere.yaml; shipped ones: characters-ablation" in refused(
            verb, "--recipe", "nowhere.yaml"
        )

    def test_a_folder_as_recipe(self, verb, tmp_path):
        assert "is a folder" in refused(verb, "--recipe", tmp_path)

    def test_a_recipe_that_is_not_yaml(self, verb, tmp_path):
        (tmp_path / "r.yaml").write_text("models: [")
        assert "r.yaml is not YAML" in refused(verb, "--recipe", "r.yaml")

    def test_an_unknown_key_and_a_wrong_type(self, verb):
        output = refused(verb, "simulate.convesations=3", "seed=often")
        assert "simulate.convesations: unknown key; did you mean `conversations`?" in output
        assert "seed: input should be a valid integer" in output

    def test_an_override_without_a_value(self, verb):
        assert "is not KEY=VALUE" in refused(verb, "seed")

    def test_a_file_as_run_folder(self, verb, tmp_path):
        (tmp_path / "file").write_text("kept")
        refused(verb, "--run", "file")
        assert (tmp_path / "file").read_text() == "kept"

    def test_a_folder_of_something_else_as_run_folder(self, verb, tmp_path):
        (tmp_path / "photo.jpg").write_text("kept")
        refused(verb, "--run", tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("verb", [s.verb for s in STAGES if s.after])
def test_a_stage_whose_input_is_missing_says_what_to_run_and_makes_nothing(verb, tmp_path):
    assert "first, or `realchat run` for all stages" in refused(verb, "--run", "mistyped")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["run", "ingest"])
def test_a_run_folder_that_cannot_be_written_is_the_worlds_fault(verb):
    code, output = realchat(verb, "--run", "/proc/self/run")
    assert code == 1
    assert "cannot write in run folder /proc/self/run" in output


def test_a_source_that_is_not_there():
    output = refused("ingest", "ingest.source=absent.jsonl")
    assert "absent.jsonl" in output
    refused("ingest", "ingest.source=still-absent.jsonl")  # the failure did not bind the folder


def test_an_unknown_verb_option_and_stage():
    for arguments in (["fly"], ["run", "--fly"]):
        assert realchat(*arguments)[0] == 2
    assert "no stage 'fly'" in refused("run", "--redo", "fly")


def test_a_changed_recipe_is_refused_with_the_difference_and_redo_takes_it(tmp_path):
    source = people_file(tmp_path / "people.json")
    options = ["--run", "runs/mine", f"ingest.source={source}"]
    assert realchat("ingest", *options)[0] == 0
    code, output = realchat("ingest", *options)
    assert (code, "already done" in output) == (0, True)
    output = refused("ingest", *options, "ingest.limit=20")
    assert "ingest.limit: null -> 20" in output
    assert "--redo ingest" in output
    assert realchat("ingest", "--redo", *options, "ingest.limit=20")[0] == 0
    code, output = realchat("ingest", "--run", "runs/mine")  # goes on with the folder's own recipe
    assert (code, "already done" in output) == (0, True)


def test_several_stages_in_order_end_with_the_last_screen_and_are_skipped_again():
    command = ["run", "name=x", "stages=[curate, simulate, corpus]", *SCRIPTED]
    command += ["simulate.conversations=6"]
    code, output = realchat(*command)
    assert code == 0, output
    done = [line for line in output.splitlines() if "done in" in line]
    assert [line.split(":")[0] for line in done] == [
        "[1/3] simulate",
        "[2/3] curate",
        "[3/3] corpus",
    ]
    assert "One conversation, whole" in output
    metrics = json.loads(Path("runs/x/metrics.json").read_text())
    assert metrics["simulate"]["conversations"] == 6
    assert set(metrics["timing"]) == {"simulate_s", "curate_s", "corpus_s"}
    before = Path("runs/x/manifest.json").read_text()
    code, output = realchat(*command)
    assert (code, output.count("already done")) == (0, 3)
    assert Path("runs/x/manifest.json").read_text() == before


def test_chat_with_a_model_that_is_not_there_yet():
    assert "no model 'user' yet" in refused("chat", "user", "--run", "runs/none")


def test_the_doctor_finds_this_machine_fit():
    assert realchat("doctor")[0] == 0
    code, output = realchat("doctor", "--brief")
    assert code == 0
    assert 3 <= len(output.splitlines()) <= 8


def test_the_version_is_told():
    assert realchat("--version")[1].startswith("realchat 0.")


def test_help_teaches():
    code, output = realchat("--help")
    assert code == 0
    assert "realchat run name=small simulate.conversations=20" in output
    for verb in ["run", *VERBS, "chat", "doctor"]:
        assert verb in output


@pytest.mark.parametrize(
    ("number", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
def test_a_stop_reaches_the_stage_and_ends_with_one_message(number, background):
    # A shell starts jobs in the background deaf to SIGINT (these tests may be such a job, too).
    hears = signal.SIG_IGN if background else signal.SIG_DFL
    ears = functools.partial(signal.signal, signal.SIGINT, hears)
    command = ["simulate", "--run", "runs/x", *SCRIPTED, "simulate.conversations=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ears,  # noqa: PLW1509 - no threads here
    )
    for line in process.stderr:
        if "0/100,000" in line:
            break
    process.send_signal(number)
    output = process.stderr.read()
    assert process.wait() == 130
    assert output.count("realchat: stopped; the same command goes on from here") == 1
    assert "Traceback" not in output
    assert json.loads(Path("runs/x/stages/simulate.json").read_text())["state"] == "begun"
    with RunFolder(Path("runs/x")).locked():
        pass  # the lock is free again: nobody works on unseen
