"""`realchat dashboard`: it serves where it says, and says what is wrong before it serves."""

import socket
import subprocess
import sys
import urllib.request

import pytest
from made_run import make_run
from typer.testing import CliRunner

from pipelines.cli import app


def test_a_folder_that_is_not_there_is_told_with_what_to_run(tmp_path):
    done = CliRunner().invoke(app, ["dashboard", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "realchat run" in done.output


def test_a_port_that_is_taken_is_told_with_a_way_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["dashboard", str(tmp_path), "--port", port])
    assert done.exit_code == 1
    assert "--port 0" in done.output


@pytest.mark.parametrize(
    "asked", [["--port", "99999"], ["--port", "-1"], ["--host", "no.such.invalid", "--port", "0"]]
)
def test_a_place_that_is_none_is_told_and_no_bug(asked, tmp_path):
    done = CliRunner().invoke(app, ["dashboard", str(tmp_path), *asked])
    assert done.exit_code == 2
    assert asked[0] in done.output
    assert "bug" not in done.output


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(tmp_path):
    make_run(tmp_path / "made")
    code = "from pipelines.cli import main; main()"
    command = [sys.executable, "-c", code, "dashboard", str(tmp_path), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().split()[0]
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"/runs/made" in answer.read()
        server.terminate()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
