"""Settings of a real server: from a file, the environment and flags, and printed back."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

SECRET = "a-token-that-nobody-may-see-01"  # noqa: S105  made up here


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs `worker serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "worker", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )


def printed(*arguments: str, **variables: str) -> dict[str, Any]:
    """Returns what `--print-config` prints."""
    done = run("--print-config", *arguments, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return tomllib.loads(done.stdout)


def test_printed_configuration_feeds_the_server(tmp_path: Path) -> None:
    """What is printed can be given back as a file, and sets the same; each line says where it came from."""
    token = tmp_path / "token"
    token.write_text(SECRET)
    arguments = ("--bundle", "b", "--run-seconds", "7.5", "--token-file", str(token), "--insecure")
    done = run("--print-config", *arguments, EMBEDPOOL_MAX_STREAMS="9")
    assert "max_streams = 9  # EMBEDPOOL_MAX_STREAMS" in done.stdout
    assert "run_seconds = 7.5  # --run-seconds" in done.stdout
    assert "hang_seconds = 5.0  # default" in done.stdout
    assert SECRET not in done.stdout
    path = tmp_path / "pool.toml"
    path.write_text(done.stdout)
    assert printed("--config", str(path)) == tomllib.loads(done.stdout)
    assert printed(EMBEDPOOL_CONFIG=str(path))["max_streams"] == 9
    over = printed("--config", str(path), "--no-insecure", "--max-streams", "3", EMBEDPOOL_RUN_SECONDS="1")
    assert (over["insecure"], over["max_streams"], over["run_seconds"]) == (False, 3, 1.0)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    """A name that does not exist, a value out of range, a missing bundle: one line, exit code 2."""
    path = tmp_path / "pool.toml"
    path.write_text("hang_second = 3\n")
    for done, words in (
        (run("--config", str(path), "--bundle", "b"), "did you mean hang_seconds?"),
        (run("--bundle", "b", EMBEDPOOL_HANG_SECOND="3"), "did you mean EMBEDPOOL_HANG_SECONDS?"),
        (run("--bundle", "b", "--hang-seconds", "-1"), "hang_seconds is from --hang-seconds"),
        (run(), "bundle is not set: give --bundle, EMBEDPOOL_BUNDLE"),
    ):
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
