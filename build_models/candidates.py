"""A candidate: the files of a bundle that is not one yet, because no manifest lies beside them.

Only `write_bundle` writes the manifest, and only a candidate that met the gate gets there.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer, normalizers

from build_models.description import SourceModel
from build_models.errors import SourceError
from build_models.export import write_fast_tokenizer
from build_models.graphs.calibrate import Ranges
from build_models.graphs.quantize import make_graph
from build_models.recipes import Recipe
from worker.bundle import MODEL, TOKENIZER, Bundle, Manifest, file_sha256, fingerprint


@dataclass(frozen=True)
class Candidate:
    """One recipe's graph with its tokenizer, ready to be measured.

    Attributes:
        recipe: What made the graph.
        bundle: Files and manifest; the manifest is not on disk.
    """

    recipe: Recipe
    bundle: Bundle

    @property
    def model_bytes(self) -> int:
        """Size of the graph file with its weights."""
        return self.bundle.model.stat().st_size

    def discard(self) -> None:
        """Removes its files: it will not be measured any more."""
        shutil.rmtree(self.bundle.path)

    def with_group(self, max_group_tokens: int) -> "Candidate":
        """Returns the candidate with another limit of tokens for texts that share a run."""
        manifest = replace(self.bundle.manifest, max_group_tokens=max_group_tokens)
        return replace(self, bundle=replace(self.bundle, manifest=manifest))


def make_candidate(
    source: SourceModel,
    recipe: Recipe,
    lean: Path,
    tokenizer: Path,
    folder: Path,
    dim: int,
    ranges: Ranges | None = None,
) -> Candidate:
    """Makes the files of a bundle in `folder`; texts run alone until a measurement allows more.

    Recipes that are calibrated need the ranges of the lean graph's activations.

    Raises:
        GraphError: The recipe cannot be made of this graph.
    """
    folder.mkdir()
    make_graph(recipe, lean, folder / MODEL, ranges)
    shutil.copyfile(tokenizer, folder / TOKENIZER)
    files = {name: file_sha256(folder / name) for name in (MODEL, TOKENIZER)}
    manifest = Manifest(
        name=source.name,
        fingerprint=fingerprint(
            files,
            max_tokens=source.max_tokens,
            pooling=source.pooling,
            normalize=source.normalize,
            prompts=source.prompts,
            query_prompt=source.query_prompt,
            document_prompt=source.document_prompt,
            recipe=recipe.settings(),
        ),
        dim=dim,
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=source.normalize,
        recipe=recipe.settings(),
        files=files,
        prompts=source.prompts,
        query_prompt=source.query_prompt,
        document_prompt=source.document_prompt,
    )
    return Candidate(recipe, Bundle(folder, manifest))


def write_tokenizer(source: SourceModel, target: Path) -> None:
    """Writes the `tokenizer.json` of a model, lowercasing included where the model's folder asks for it.

    Raises:
        SourceError: The folder has no tokenizer that can be read.
    """
    original = source.folder / TOKENIZER
    if original.is_file():
        shutil.copyfile(original, target)
    else:
        write_fast_tokenizer(source.folder, target)
    try:
        tokenizer = Tokenizer.from_file(str(target))
    except Exception as error:  # the library raises bare Exception
        raise SourceError(f"{original} is no tokenizer ({error}); the model folder is damaged") from error
    if source.lowercase:
        steps = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.save(str(target))
