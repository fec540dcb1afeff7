"""The committed stubs are those that `make proto` generates from the committed contract."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "proto" / "embedpool"
GENERATED = ROOT / "proto" / "gen" / "embedpool"


def _stubs(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*_pb2*.py*")}


def test_the_stubs_are_fresh(tmp_path: Path) -> None:
    """Generating again changes no byte, so the code speaks the contract that people read."""
    made_by = re.search(
        r"GRPC_GENERATED_VERSION = '([^']+)'",
        (GENERATED / "v1" / "embedding_service_pb2_grpc.py").read_text(),
    )
    assert made_by is not None
    if version("grpcio-tools") != made_by[1]:
        pytest.skip(f"grpcio-tools is {version('grpcio-tools')}, the stubs were made by {made_by[1]}")
    contracts = sorted(CONTRACTS.glob("*/*.proto"))
    assert {path.parent.name for path in contracts} == {"v1", "wires"}
    arguments = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main(["protoc", f"-I{ROOT / 'proto'}", *arguments, *map(str, contracts)]) == 0
    fresh, committed = _stubs(tmp_path / "embedpool"), _stubs(GENERATED)
    assert committed.keys() == fresh.keys()
    stale = [name for name in sorted(fresh) if committed[name] != fresh[name]]
    assert not stale, f"{stale}: run `make proto` and commit the result"
