"""Bundles as rows: how each is called, what it computes with, how large its model is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from build_models.comparison.table import Row
from build_models.comparison.timing import Precision, System, time_systems
from build_models.graphs.optimize import operator_counts
from build_models.recipes import FP32
from worker.bundle import MODEL, Bundle
from worker.session import INTEGER_KERNELS

AS_SERVED = "as the worker runs them"
NO_MODEL = "PyTorch FP32 is left out: which model the bundles were built from is not known; give --model."


@dataclass(frozen=True)
class Served:
    """A bundle, or what would be one.

    Attributes:
        name: Of its row.
        precision: What its graph computes with.
        bundle: Its files and manifest.
    """

    name: str
    precision: Precision
    bundle: Bundle

    @property
    def model_bytes(self) -> int:
        """Size of the graph with its weights, wherever they lie, in bytes."""
        return sum(file.stat().st_size for file in self.bundle.path.glob(MODEL + "*"))


def served(bundle: Bundle) -> Served:
    """Returns a bundle as a row: its precision read from the graph itself, its name with the recipe's."""
    integers = INTEGER_KERNELS & set(operator_counts(bundle.model))
    precision = Precision.ONNX_INT8 if integers else Precision.ONNX_FP32
    recipe = str(bundle.manifest.recipe["name"])
    name = str(precision) if recipe == FP32.name else f"{precision} ({recipe})"
    return Served(name, precision, bundle)


def all_served(bundles: Sequence[Bundle]) -> list[Served]:
    """Returns bundles as rows with names of their own: two that would be alike get their folders' names."""
    rows = [served(bundle) for bundle in bundles]
    names = [row.name for row in rows]
    return [
        row if names.count(row.name) == 1 else replace(row, name=f"{row.name} {row.bundle.path}")
        for row in rows
    ]


def timed_rows(systems: Sequence[System], label: str) -> list[Row]:
    """Times systems on the calling thread; returns their rows, not judged yet."""
    return [
        Row(
            system.name,
            system.precision,
            system.model_bytes,
            timing.milliseconds,
            timing.cpu_milliseconds,
            timing.way,
        )
        for system, timing in zip(systems, time_systems(systems, label), strict=True)
    ]
