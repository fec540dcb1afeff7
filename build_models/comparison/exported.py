"""The source model as graphs, made to stand beside the bundles: FP32, and quantized for stand-ins."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.candidates import Candidate, make_candidate, write_tokenizer
from build_models.description import SourceModel
from build_models.export import TorchModel
from build_models.graphs.calibrate import activation_ranges
from build_models.graphs.optimize import optimize
from build_models.parity import check_parity
from build_models.recipes import FP32, Recipe
from worker.bundle import TOKENIZER, Bundle
from worker.session import Session


def export_fp32(source: SourceModel, model: TorchModel, folder: Path) -> Candidate:
    """Returns the FP32 graph as a build makes it, proven equal to torch.

    Raises:
        ExportError: It could not be exported, or computes something else.
        GraphError: ONNX Runtime refuses it.
    """
    raw, lean, tokenizer = folder / "raw.onnx", folder / "lean.onnx", folder / TOKENIZER
    model.export(raw)
    optimize(raw, lean)
    raw.unlink()
    write_tokenizer(source, tokenizer)
    candidate = make_candidate(source, FP32, lean, tokenizer, folder / FP32.name, model.dim)
    lean.unlink()
    check_parity(model, Session(candidate.bundle), source.max_tokens)
    return candidate


def quantized(
    source: SourceModel, fp32: Bundle, recipe: Recipe, texts: Sequence[NDArray[np.int64]], folder: Path
) -> Candidate:
    """Returns the graph of a recipe, made of the FP32 one.

    Args:
        source: What both were made of.
        fp32: The bundle that `export_fp32` returned.
        recipe: What to do with it.
        texts: Token ids of texts to calibrate with, where the recipe asks for it.
        folder: Where its files go, in a folder named after the recipe.

    Raises:
        GraphError: The recipe cannot be made of this graph.
    """
    ranges = activation_ranges(fp32.model, texts) if recipe.calibrated else None
    place = folder / recipe.name
    return make_candidate(source, recipe, fp32.model, fp32.tokenizer, place, fp32.manifest.dim, ranges)
