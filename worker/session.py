"""One ONNX Runtime session on one thread: token ids to vectors, or to the logits of a tagger.

The only file that imports onnxruntime. Guarantees: the graph that runs is the graph in the file (no
optimization at load, so what a build measured is what is served); texts share a tensor only
if they have exactly equal length and the manifest allows it; nothing is padded.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from worker.bundle import Bundle
from worker.cpu_flags import check_cpu
from worker.errors import ModelError

INPUT = "input_ids"
OUTPUT = "embedding"
LOGITS = "logits"  # output of a tagger

# Operators of ONNX Runtime's CPU provider that multiply integers.
INTEGER_KERNELS = frozenset(
    {
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "MatMulInteger",
        "QLinearMatMul",
        "QGemm",
        "MatMulNBits",
    }
)


def session_options() -> ort.SessionOptions:
    """Returns the options of every session that measures or serves: one thread, no spinning, graph as is."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Subnormal weights cost up to ten times on x86; flushing them changes nothing a cosine can see.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Input lengths vary: a memory plan per shape only grows.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


class Session:
    """Runs one model that computes vectors on the calling thread.

    Raises:
        BundleError: This CPU would compute other vectors than the bundle's.
        ModelError: The graph cannot be loaded, or its input or output is not the bundle's.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._max_group_tokens = bundle.manifest.max_group_tokens
        self._dim = bundle.manifest.dim
        self._graph = _Graph(bundle, OUTPUT)

    def embed(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Returns the vectors of texts: ids `[tokens]` each, result float32 `[texts, dim]` in their order.

        Neighbours of equal length share a run where the manifest allows it, all others run alone.

        Raises:
            ModelError: The model could not compute; nothing is kept of the failed run.
        """
        vectors = np.empty((len(texts), self._dim), dtype=np.float32)
        done = 0
        for length, same in groupby(texts, key=len):
            rows = list(same)
            step = max(1, self._max_group_tokens // max(1, length))
            for start in range(0, len(rows), step):
                group = rows[start : start + step]
                vectors[done : done + len(group)] = self._graph.run(np.stack(group))
                done += len(group)
        return vectors


class TokenSession:
    """Runs one tagger on the calling thread, each text alone.

    Raises:
        BundleError: This CPU would compute other logits than the bundle's.
        ModelError: The graph cannot be loaded, or its input or output is not a tagger's.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._graph = _Graph(bundle, LOGITS)

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the logits of one text: ids `[tokens]`, result float32 `[tokens, labels]`.

        Raises:
            ModelError: The model could not compute.
        """
        result: NDArray[np.float32] = self._graph.run(ids[None])[0]
        return result


class _Graph:
    """A graph with one input and one output, loaded as it is."""

    def __init__(self, bundle: Bundle, output: str) -> None:
        check_cpu(bundle)
        self._output = output
        try:
            self._session = ort.InferenceSession(
                str(bundle.model), session_options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no public base class
            raise ModelError(f"cannot load {bundle.model}: {error}") from error
        inputs = [i.name for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != [INPUT] or outputs != [output]:
            raise ModelError(
                f"{bundle.model} has inputs {inputs} and outputs {outputs}, "
                f"wanted [{INPUT!r}] and [{output!r}]; build the bundle again"
            )

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            (values,) = self._session.run([self._output], {INPUT: ids})
        except Exception as error:  # onnxruntime's errors share no public base class
            raise ModelError(
                f"the model failed on {ids.shape[0]} × {ids.shape[1]} tokens: {error}"
            ) from error
        result: NDArray[np.float32] = values
        return result
