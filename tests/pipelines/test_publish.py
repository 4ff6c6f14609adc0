"""What arrives equals the run, byte for byte, once: whatever happens on the way."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import TOKEN, Fault, LocalHub
from small_run import make_run

from pipelines.gate import GateSettings, checks, figures_for_gate, passage
from pipelines.hub import Hub
from pipelines.publish import Wishes, changes, next_tag, publish, same
from pipelines.release import CARD, MANIFEST, Release, make_release
from usersim.errors import InputError, WorldError

REPO = "someone/talks"
STEPS = ("info", "create", "yaml", "preupload", "batch", "put", "verify", "commit", "tree", "refs",
         "tag")  # fmt: skip


class Clock:
    """In place of a module's `time`: nobody waits, and the test sees how long it would have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch, tmp_path) -> Clock:
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, disable_progress_bars

    disable_progress_bars()
    clock = Clock()
    monkeypatch.setattr(_http, "time", clock)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return clock


@pytest.fixture
def server(monkeypatch):
    with LocalHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "small", shard_bytes=3500)


@pytest.fixture(scope="module")
def release(run) -> Release:
    gate = passage(checks(GateSettings(), figures_for_gate(run.root)), None)
    return make_release(run, "corpus", REPO, gate=gate)


def bring(release: Release, clock: Clock, **wishes):
    return publish(release, Hub(REPO, release.repo_type, sleep=clock.sleep), Wishes(**wishes))


def expected(release: Release) -> dict[str, bytes]:
    return {
        f.path: f.content if isinstance(f.content, bytes) else f.content.read_bytes()
        for f in release.files
    }


def assert_whole_and_once(server: LocalHub, release: Release, resent: int = 0) -> None:
    repo = server.repo(REPO)
    assert server.files(REPO) == expected(release)
    assert repo.messages == ["initial commit", "Release the corpus of small"]
    assert repo.tags == {"v1": repo.head}
    assert len(server.puts) <= len(set(server.puts)) + resent


def assert_no_half_release(server: LocalHub, release: Release) -> None:
    """Whatever stands there is nothing, or all of it; and a tag is on all of it."""
    for repo in server.repos.values():
        for oid, tree in repo.commits:
            paths = tree.keys() - {".gitattributes"}
            assert not paths or paths == expected(release).keys()
            assert oid not in repo.tags.values() or paths


def test_a_release_arrives_and_giving_the_command_again_changes_nothing(server, release, clock):
    published = bring(release, clock)
    assert_whole_and_once(server, release)
    assert server.repo(REPO).private
    assert published.url == f"{server.url}/datasets/{REPO}"
    assert (published.tag, published.sent) == ("v1", len(release.files))
    assert sum(name.endswith(".parquet") for name in server.files(REPO)) > 2
    again = bring(release, clock)
    assert_whole_and_once(server, release)
    assert (again.tag, again.sent, again.commit) == ("v1", 0, published.commit)
    assert clock.slept == []


def test_large_files_in_parts(server, release, clock):
    server.part_size = 1000
    bring(release, clock)
    assert_whole_and_once(server, release)


@pytest.mark.parametrize("after", [False, True], ids=["before", "answer-lost"])
@pytest.mark.parametrize("step", STEPS)
def test_a_connection_that_breaks_at_a_step(server, release, clock, step, after):
    server.fail(step, Fault(cut=True, after=after))
    bring(release, clock)
    # Who gets no answer has to send the bytes again.
    assert_whole_and_once(server, release, resent=int(step == "put" and after))
    assert_no_half_release(server, release)
    assert clock.slept


@pytest.mark.parametrize("step", [s for s in STEPS if s != "yaml"])
def test_a_step_that_fails_for_a_while(server, release, clock, step):
    server.fail(step, *[Fault(status, {"Retry-After": "7"}) for status in (429, 500, 503)])
    bring(release, clock)
    assert_whole_and_once(server, release)
    assert len(clock.slept) == 3
    assert min(clock.slept) >= 7


@pytest.mark.parametrize("step", ["info", "put", "commit"])
def test_a_hub_that_stays_broken_is_given_up_on_and_the_same_command_goes_on(
    server, release, clock, step
):
    server.fail(step, *[Fault(502) for _ in range(200)])
    with pytest.raises(WorldError, match=r"502.*the same command goes on from here"):
        bring(release, clock)
    assert len(server.calls) < 300  # the client tries each file six times, and so do we five
    assert_no_half_release(server, release)
    server.faults.clear()
    bring(release, clock)
    assert_whole_and_once(server, release)


def test_a_hub_that_wants_a_day_is_not_waited_for(server, release, clock):
    server.fail("info", Fault(429, {"Retry-After": "86400"}))
    with pytest.raises(WorldError, match="wait 86400 s"):
        bring(release, clock)
    assert clock.slept == []


@pytest.mark.parametrize(
    ("step", "status", "message"),
    [
        ("info", 401, "does not accept the token"),
        ("create", 403, "needs write access to someone/talks"),
        ("create", 402, "payment"),
        ("preupload", 403, "needs write access"),
        ("batch", 403, "needs write access"),
        ("put", 403, "needs write access"),
        ("commit", 404, "has no someone/talks"),
        ("commit", 400, "malformed"),
        ("commit", 422, "refuses"),
        ("yaml", 400, "Invalid metadata"),
    ],
)
def test_what_waiting_does_not_mend_is_told_at_once(server, release, clock, step, status, message):
    server.fail(step, Fault(status))
    with pytest.raises(InputError, match=message):
        bring(release, clock)
    assert clock.slept == []
    assert server.calls.count(step) <= max(server.calls.count("info"), 6)
    assert_no_half_release(server, release)
    bring(release, clock)
    assert_whole_and_once(server, release)


def test_a_token_that_may_only_read(server, release, clock):
    server.may_write = False
    with pytest.raises(InputError, match="write access"):
        bring(release, clock)
    assert server.repos == {}


def test_a_conflict_that_passes(server, release, clock):
    server.fail("commit", Fault(409), Fault(409))
    bring(release, clock)
    assert_whole_and_once(server, release)


def test_somebody_else_commits_meanwhile(server, release, clock):
    def meddle():
        repo = server.repo(REPO)
        repo.add(repo.tree("main") | {"LICENSE": b"theirs"}, "theirs")

    server.fail("commit", Fault(act=meddle))
    with pytest.raises(WorldError, match="somebody else committed"):
        bring(release, clock)
    assert server.files(REPO) == {"LICENSE": b"theirs"}
    bring(release, clock)
    assert server.files(REPO) == {"LICENSE": b"theirs"} | expected(release)
    assert server.repo(REPO).tags == {"v1": server.repo(REPO).head}


def test_bytes_that_went_wrong_are_found_and_not_tagged(server, release, clock):
    victim = next(f for f in release.files if f.path.endswith(".parquet"))
    spoil = threading.Event()

    def rot():
        server.store[victim.sha256] = b"rotten"
        spoil.set()

    server.fail("commit", Fault(act=rot))
    with pytest.raises(WorldError, match=r"not what was sent .*parquet.*not tagged"):
        bring(release, clock)
    assert spoil.is_set()
    assert server.repo(REPO).tags == {}


def test_the_next_release_takes_the_place_of_the_last_and_keeps_what_is_the_same(
    server, release, clock, tmp_path
):
    bring(release, clock)
    first = server.repo(REPO).head
    puts = len(server.puts)
    smaller = make_release(
        make_run(tmp_path / "small", number=24, shard_bytes=3500), "corpus", REPO
    )
    bring(smaller, clock)
    assert server.files(REPO) == expected(smaller)
    assert server.files(REPO, revision="v1") == expected(release)
    assert server.repo(REPO).tags == {"v1": first, "v2": server.repo(REPO).head}
    bring(smaller, clock, tag="spring")
    assert server.repo(REPO).tags["spring"] == server.repo(REPO).head
    bring(release, clock)
    known = {f.sha256 for f in release.files} | {f.sha256 for f in smaller.files}
    assert set(server.puts) <= known
    assert len(server.puts) == len(set(server.puts)) > puts


def test_a_subset_that_is_published_no_more_goes_from_the_repository(server, release, clock):
    lineage = {f.path for f in release.files if f.path.startswith("lineage/")}
    assert lineage
    bring(release, clock)
    without = replace(release, files=tuple(f for f in release.files if f.path not in lineage))
    bring(without, clock)
    assert not lineage & server.files(REPO).keys()
    assert lineage <= server.files(REPO, revision="v1").keys()


def test_a_token_is_taken_out_of_a_message_before_that_is_cut(clock):
    for length in range(430, 500):
        told = Hub(REPO, "dataset", pauses=(), sleep=clock.sleep)._redacted("x" * length + TOKEN)
        assert TOKEN[:4] not in told, length
        assert len(told) <= 500


def test_a_tag_of_another_release_is_refused(server, release, clock):
    bring(release, clock, tag="v1")
    server.repo(REPO).add(server.repo(REPO).tree("main") | {CARD: b"---\nedited"}, "edited")
    with pytest.raises(InputError, match="has a tag v1 of another commit"):
        bring(release, clock, tag="v1")
    with pytest.raises(InputError, match="--tag a b"):
        bring(release, clock, tag="a b")


def test_visibility_is_never_changed_behind_anybodys_back(server, release, clock):
    bring(release, clock, public=True)
    assert not server.repo(REPO).private
    with pytest.raises(InputError, match="public; add --public"):
        bring(release, clock)
    server.repo(REPO).private = True
    with pytest.raises(InputError, match="private; show it to all"):
        bring(release, clock, public=True)


def test_a_repository_of_something_else_is_left_alone(server, release, clock):
    bring(release, clock)
    repo = server.repo(REPO)
    other = {"data/train-00000-of-00001.parquet": ("0" * 64, 5), CARD: b"---\n"}
    repo.add(other | {"photos/cat.jpg": b"cat"}, "other")
    with pytest.raises(InputError, match=r"holds something else .*photos/cat.jpg"):
        bring(release, clock)


def test_more_files_than_one_commit_takes(server, release, clock, monkeypatch):
    monkeypatch.setattr("pipelines.publish.FILES_PER_COMMIT", 3)
    server.fail("commit", Fault(), Fault(cut=True))
    bring(release, clock)
    repo = server.repo(REPO)
    assert server.files(REPO) == expected(release)
    assert repo.messages[1:-1] == ["Data files of small, not a release yet"] * (
        len(repo.messages) - 2
    )
    assert all(MANIFEST not in tree for _, tree in repo.commits[:-1])
    assert repo.tags == {"v1": repo.head}


def test_models_go_to_model_repositories(server, run, clock):
    release = make_release(run, "user-model", REPO, "the base is mine")
    bring(release, clock)
    assert server.files(REPO, "model") == expected(release)
    assert {"model.safetensors", "config.json", CARD, MANIFEST} <= server.files(
        REPO, "model"
    ).keys()


def test_no_token_no_publishing(server, release, clock, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match=r"no token.*HF_TOKEN"):
        bring(release, clock)
    assert server.calls == []


def test_the_token_shows_nowhere(server, run, release, clock, caplog, capfd):
    """Not in messages, though the hub repeats it; not in logs, nor in what is sent as a file."""
    caplog.set_level(0)
    echo = "you sent {authorization}"
    messages = []
    for step in ("info", "preupload", "commit"):
        for status in (400, 403, 503):
            server.fail(step, *[Fault(status, message=echo) for _ in range(6)])
            hub = Hub(REPO, release.repo_type, pauses=(), sleep=clock.sleep)
            with pytest.raises((InputError, WorldError)) as caught:
                publish(release, hub, Wishes())
            assert caught.value.__context__ is None
            messages.append(str(caught.value))
            server.faults.clear()
    assert any("you sent Bearer [token]" in message for message in messages)
    bring(release, clock)
    shown = capfd.readouterr()
    files = b"".join([*expected(release).values(), *server.files(REPO).values()])
    kept = b"".join(p.read_bytes() for p in run.root.rglob("*") if p.is_file())
    for text in (*messages, caplog.text, shown.out, shown.err, str(files), str(kept)):
        assert TOKEN not in text


def test_known_answers(release):
    assert next_tag([]) == next_tag(["spring", "v0"]) == "v1"
    assert next_tag(["v9", "v10", "v1.5", "vv11"]) == "v11"
    assert not any(same(file, None) for file in release.files)
    assert len(changes(release, {}).send) == len(release.files)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_and_run_again(server, run, release, clock, step):
    """The process is killed for good while the hub handles a step; then the command again."""
    fault = server.fail(step, Fault(hold=threading.Event()))
    command = "from pipelines.cli import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", command, "publish", str(run.root), "--repo", REPO, "--yes"],
        env=os.environ | {"HF_HUB_DISABLE_XET": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=Path(__file__).parent.parent.parent,
    )
    try:
        assert fault.reached.wait(60), child.communicate()
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
        fault.hold.set()
    assert_no_half_release(server, release)
    bring(release, clock)
    assert_whole_and_once(server, release)
