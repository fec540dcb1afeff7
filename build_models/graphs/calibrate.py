"""What activations look like on real texts: the range of each channel in front of each multiplication."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from build_models.errors import GraphError
from build_models.graphs.edit import GraphEdit
from build_models.graphs.matmuls import matmul_groups
from worker.session import INPUT, session_options


@dataclass(frozen=True)
class ChannelRange:
    """Least and largest value of each channel over all tokens of all texts, float32 `[channels]` each."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def magnitude(self) -> NDArray[np.float32]:
        """Largest absolute value of each channel, float32 `[channels]`."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def joined(self, values: NDArray[np.float32]) -> "ChannelRange":
        """Returns the range that also covers `values`, float32 `[..., channels]`."""
        rows = values.reshape(-1, values.shape[-1])
        return ChannelRange(np.minimum(self.low, rows.min(axis=0)), np.maximum(self.high, rows.max(axis=0)))


# Name of a tensor that multiplications read to its range.
Ranges = Mapping[str, ChannelRange]


def activation_ranges(graph: Path, texts: Sequence[NDArray[np.int64]]) -> Ranges:
    """Returns the range of every tensor that a constant matrix multiplies.

    Args:
        graph: The lean FP32 graph.
        texts: Token ids `[tokens]` of each calibration text; each runs alone, unpadded.

    Raises:
        GraphError: There are no texts, or ONNX Runtime cannot run the graph.
    """
    if not texts:
        raise GraphError("no text to calibrate with; give evaluation data with texts in it")
    names = [group.activations for group in matmul_groups(GraphEdit(graph))]
    session = _session(graph, names)
    ranges: dict[str, ChannelRange] = {}
    for ids in texts:
        for name, values in zip(names, session.run(names, {INPUT: ids[None]}), strict=True):
            found = ranges.get(name)
            if found is None:
                edge = np.full(values.shape[-1], np.inf, dtype=np.float32)
                found = ChannelRange(edge, -edge)
            ranges[name] = found.joined(values)
    return ranges


def _session(graph: Path, outputs: Sequence[str]) -> ort.InferenceSession:
    model = onnx.load(str(graph))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name not in known
    )
    try:
        return ort.InferenceSession(
            model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no public base class
        raise GraphError(f"cannot run {graph.name} to calibrate: {error}") from error
