"""`realchat publish` as people meet it: a dry run first, then --yes; and what arrives loads."""

import json
import os
import subprocess
import sys

import pytest
from hub_server import TOKEN, Fault, LocalHub
from small_run import make_run
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.publish_plan import human_size
from usersim.files import write_json

REPO = "someone/talks"


@pytest.fixture(autouse=True)
def client(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def server(monkeypatch):
    with LocalHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "small", shard_bytes=3500)


def publish(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["publish", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_a_dry_run_shows_what_would_go_where_and_sends_nothing(server, run):
    before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file() and p.name != ".lock"}
    code, output = publish(run.root, "--repo", REPO)
    assert code == 0, output
    for part in (
        f"{server.url}/datasets/{REPO} (new, private)",
        "realchat: cc-by-4.0, 40 conversations",
        "tag         v1",
        "data/train-00000-of-00002.parquet",
        "Nothing was sent. To publish: the same command with --yes",
    ):
        assert part in output
    assert set(server.calls) == {"info"}
    assert server.repos == {}
    after = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before


def test_a_dry_run_tells_what_is_there_already_and_what_would_go(server, run, tmp_path):
    code, output = publish(run.root, "--repo", REPO, "--public", "--yes")
    assert code == 0, output
    assert f"{server.url}/datasets/{REPO}/tree/v1" in output
    _, output = publish(run.root, "--repo", REPO, "--public")
    assert "public, there since before" in output
    assert output.count("there already") == len(server.files(REPO))
    smaller = make_run(tmp_path / "smaller", number=20, shard_bytes=20_000)
    _, output = publish(smaller.root, "--repo", REPO, "--public")
    assert "replaces another" in output
    assert "to be removed" in output
    assert "tag         v2" in output


def test_a_dry_run_without_network_and_token_still_shows_the_files(run, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN")
    code, output = publish(run.root, "--repo", REPO)
    assert code == 0
    assert "the hub cannot be asked" in output
    assert "no token" in output
    assert "report.html" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repo", "talks"], "name the owner too"),
        (["--repo", "a/b/c"], "name the owner too"),
        (["--repo", "some one/talks"], "Repo id must"),
        (["--repo", REPO, "--what", "everything"], "--what everything: one of corpus"),
        (["--repo", REPO, "--license-confirmed", " "], "in 10 to 1000 characters"),
        (["--repo", REPO, "--tag", "v 1"], "--tag v 1"),
    ],
)
def test_bad_input(server, run, arguments, message):
    code, output = publish(run.root, *arguments)
    assert code == 2
    assert message in " ".join(output.split())
    assert server.repos == {}


def test_a_closed_gate_refuses_unless_somebody_says_why(server, run):
    metrics = run.metrics()
    metrics["curate"]["before_after"]["after"]["personal_data"] = 0.25
    write_json(run.metrics_file, metrics)
    code, output = publish(run.root, "--repo", REPO, "--yes")
    assert code == 2
    assert "the gate is closed" in output
    assert "0.25" in output
    assert server.repos == {}
    why = "every address in it belongs to a fictional village"
    code, output = publish(run.root, "--repo", REPO, "--yes", "--gate-overridden", why)
    assert code == 0, output
    recorded = json.loads(server.files(REPO)["manifest.json"])["gate"]
    assert (recorded["passed"], recorded["overridden"]) == (False, why)


def test_a_mistyped_run_is_not_made(tmp_path):
    code, output = publish(tmp_path / "nowhere", "--repo", REPO)
    assert code == 2
    assert "is no run folder" in output
    assert not (tmp_path / "nowhere").exists()


def test_a_refusal_of_the_hub_is_one_message_and_tracebacks_do_not_show_the_token(
    server, run, monkeypatch
):
    server.fail("info", *[Fault(401, message="{authorization}")] * 2)
    code, output = publish(run.root, "--repo", REPO, "--yes")
    assert code == 2
    assert "does not accept the token" in output
    monkeypatch.setenv("REALCHAT_DEBUG", "1")
    result = CliRunner().invoke(app, ["publish", str(run.root), "--repo", REPO, "--debug"])
    assert "Traceback" in result.output
    assert TOKEN not in result.output + output


def test_sizes():
    assert [human_size(n) for n in (0, 999, 14_300, 2_100_000_000)] == [
        "0 B", "999 B", "14.3 kB", "2.1 GB",
    ]  # fmt: skip


LOAD = """
import json, sys
from datasets import load_dataset
corpus = load_dataset(sys.argv[1], revision="v1")
print(json.dumps({name: list(split["messages"]) for name, split in corpus.items()}))
"""


@pytest.mark.slow
def test_what_arrived_loads_over_http_as_the_card_says(server, run, tmp_path):
    from usersim.files import read_rows

    assert publish(run.root, "--repo", REPO, "--yes")[0] == 0
    done = subprocess.run(
        [sys.executable, "-c", LOAD, REPO],
        env=os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1",
                          "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = json.loads(done.stdout)
    for split in ("train", "test"):
        shards = sorted((run.corpus / "data").glob(f"{split}-*.parquet"))
        assert loaded[split] == [row["messages"] for shard in shards for row in read_rows(shard)]
    assert "resolve" in server.calls
