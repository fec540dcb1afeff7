"""A bundle: the folder that holds one servable model, and the manifest that describes it.

`build_models` writes bundles, the worker serves them; both use this file, so that the layout and the
fingerprint have one owner. A bundle without a manifest is not a bundle: the manifest is written last.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from worker.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
REPORT_JSON = "report.json"
REPORT_MARKDOWN = "report.md"
PARETO = "pareto.png"
# Files for people: they say nothing of what vectors are.
REPORTS = (REPORT_JSON, REPORT_MARKDOWN, PARETO)

_CHUNK_BYTES = 1 << 20  # read size of a checksum; arbitrary


class Task(StrEnum):
    """What the model of a bundle computes."""

    EMBEDDING = "embedding"
    NER = "ner"


class Pooling(StrEnum):
    """How token vectors become the vector of a text."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    MAX = "max"
    MEAN_SQRT_LENGTH = "mean_sqrt_len_tokens"  # the sum over the square root of the count
    WEIGHTED_MEAN = "weightedmean"  # each token weighs its position, counted from 1


@dataclass(frozen=True)
class Manifest:
    """Everything a server must know of a model; `manifest.json` is this class as JSON.

    Attributes:
        name: Name of the source model, for people.
        fingerprint: Hex sha256 over all that decides a vector; see `fingerprint`.
        dim: Length of a vector; of a tagger, how many labels it has.
        max_tokens: Longest input in tokens, special tokens included; longer texts are cut.
        pooling: How token vectors became the text's vector; the graph in the file does it.
        normalize: Whether vectors have unit length; the graph in the file does it.
        recipe: Every setting that made the graph; `name` is always there.
        files: File name in the bundle to its hex sha256; `model.onnx` and `tokenizer.json` at least.
        prompts: Prompt name to the text that is put in front.
        query_prompt: Name in `prompts` used for queries by default; "" for none.
        document_prompt: Name in `prompts` used for documents by default; "" for none.
        max_group_tokens: Texts of exactly equal token length may share a run of up to this many tokens in
            all, because a build measured that their vectors do not change; 0 where each text must run alone.
        cpu_flags: SIMD flags of the CPU that speed and quality were measured on.
        quality: Summary of the gate's figures, name to value.
        speed: Summary of the measured speed, name to value.
        versions: Package name to version, of the tools that built the bundle.
        task: What the model computes.
        labels: Of a tagger, what each place of a token's logits stands for; empty for other tasks. Pooling,
            normalization, prompts and groups say nothing of a tagger.
        schema_version: Version of this layout.
    """

    name: str
    fingerprint: str
    dim: int
    max_tokens: int
    pooling: Pooling
    normalize: bool
    recipe: Mapping[str, Any]
    files: Mapping[str, str]
    prompts: Mapping[str, str] = field(default_factory=dict)
    query_prompt: str = ""
    document_prompt: str = ""
    max_group_tokens: int = 0
    cpu_flags: tuple[str, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    task: Task = Task.EMBEDDING
    labels: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Returns the text of `manifest.json`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files were compared with their checksums."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The ONNX graph, exactly as it runs: sessions load it without further optimization."""
        return self.path / MODEL

    @property
    def tokenizer(self) -> Path:
        """The tokenizer in the format of the `tokenizers` library."""
        return self.path / TOKENIZER


def file_sha256(path: Path) -> str:
    """Returns the hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(
    files: Mapping[str, str],
    *,
    max_tokens: int,
    pooling: Pooling,
    normalize: bool,
    prompts: Mapping[str, str],
    query_prompt: str,
    document_prompt: str,
    recipe: Mapping[str, Any],
    labels: Sequence[str] = (),
) -> str:
    """Returns the hex sha256 that names a model's vectors, or its tags.

    Two bundles share it only if every text gets the same vector from both: it covers graph and weights
    (`model.onnx`), tokenizer, pooling, prompts, cut, recipe and a tagger's labels, and leaves out names,
    reports and figures.
    """
    identity: dict[str, Any] = {
        "files": {name: digest for name, digest in files.items() if name not in REPORTS},
        "max_tokens": max_tokens,
        "pooling": pooling,
        "normalize": normalize,
        "prompts": dict(prompts),
        "query_prompt": query_prompt,
        "document_prompt": document_prompt,
        "recipe": dict(recipe),
    }
    if labels:  # left out where there are none: the fingerprints of vectors stay what they were
        identity["labels"] = list(labels)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest, durably and whole or not at all; call it after every other file."""
    temporary = folder / (MANIFEST + ".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(manifest.to_json())
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / MANIFEST)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bundle(path: Path) -> Bundle:
    """Reads a bundle and compares every file with its checksum.

    Raises:
        BundleError: No manifest, a manifest of another schema or with wrong fields, a missing file,
            or a file whose checksum differs.
    """
    manifest = _read_manifest(path)
    for name, expected in sorted(manifest.files.items()):
        file = path / name
        if not file.is_file():
            raise BundleError(f"bundle {path}: {name} is missing; build or copy the bundle again")
        actual = file_sha256(file)
        if actual != expected:
            raise BundleError(
                f"bundle {path}: sha256 of {name} is {actual[:12]}…, the manifest says {expected[:12]}…; "
                "the file is damaged or was edited: build or copy the bundle again"
            )
    for name in (MODEL, TOKENIZER):
        if name not in manifest.files:
            raise BundleError(f"bundle {path}: the manifest lists no {name}; build the bundle again")
    return Bundle(path, manifest)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"{path} is no bundle: cannot read {MANIFEST} ({error.strerror}); "
            "make one with 'python -m build_models build'"
        ) from error
    except ValueError as error:
        raise BundleError(
            f"bundle {path}: {MANIFEST} is not JSON ({error}); build or copy the bundle again"
        ) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {path}: schema version is {version}, this worker reads {SCHEMA_VERSION}; "
            "build the bundle again with this release"
        )
    try:
        raw["pooling"] = Pooling(raw["pooling"])
        raw["task"] = Task(raw["task"])
        raw["cpu_flags"] = tuple(raw["cpu_flags"])
        raw["labels"] = tuple(raw.get("labels", ()))  # absent in manifests from before taggers
        return Manifest(**raw)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"bundle {path}: {MANIFEST} has wrong fields ({error}); build the bundle again"
        ) from error
