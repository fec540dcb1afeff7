"""The unit for systemd, checked by systemd's own tools and against the settings of the server."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.test_deploy import DEPLOY, MARGIN_SECONDS, config_of, run, tool

UNIT = DEPLOY / "systemd" / "embedpool-worker.service"
ENVIRONMENT = DEPLOY / "systemd" / "worker.env"
MAX_EXPOSURE = 20  # tenths, of 100: systemd calls up to 4.9 OK; a looser unit is a decision


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists everywhere in place of ours."""
    file = tmp_path / UNIT.name
    file.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    return file


def test_systemd_takes_the_unit(unit: Path) -> None:
    """`systemd-analyze verify` finds nothing to say, and what the unit may do stays little."""
    analyze = tool("systemd-analyze")
    said = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr
    assert unit.name not in said.stderr
    run(analyze, "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(unit))


@pytest.mark.parametrize("commented", [False, True])
def test_the_environment_file_holds_settings(commented: bool) -> None:
    """Each line of the environment file is a setting, in comments too; the drain ends before the kill."""
    text = ENVIRONMENT.read_text()
    if commented:
        text = re.sub(r"(?m)^#(?=EMBEDPOOL_)", "", text)
    config = config_of(dict(re.findall(r"(?m)^(\w+)=(.*)$", text)))
    (limit,) = re.findall(r"TimeoutStopSec=(\d+)", UNIT.read_text())
    assert int(limit) >= config.drain_seconds + MARGIN_SECONDS
    assert "KillMode=mixed" in UNIT.read_text()
    assert (config.tls.cert is not None) == commented
