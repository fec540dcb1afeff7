"""The exporter: a module of torch to a graph of ONNX, by tracing it on one text.

What a trace of one length leaves out, such as a mask that a short text does not need, is left out for every
length: parity on several shapes is the proof, every time.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.jit._trace import TracerWarning

from build_models.errors import ExportError
from worker.session import INPUT

# The first opset with LayerNormalization as an operator; newer ones gain nothing here.
OPSET = 17
# Of the traced texts at the least; arbitrary, an odd number tells tokens from halves of them.
_EXAMPLE_TOKENS = 17
# Names of the width of local attention, in tokens, in the configs of transformers.
_WINDOWS = ("local_attention", "sliding_window")
# What torch says of the tracing exporter; each was looked at, and parity is proven after every export.
_EXPORT_WARNINGS = (
    (DeprecationWarning, r"You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, r"The feature will be removed"),
    (TracerWarning, r".*"),
    (UserWarning, r"To copy construct from a tensor"),
)


def write_graph(
    graph: torch.nn.Module, path: Path, output: str, axes: Sequence[str], name: str, vocabulary: int
) -> None:
    """Writes the graph of a module that reads `input_ids [batch, tokens] int64`.

    Args:
        graph: The module; brought to evaluation mode.
        path: The file to write.
        output: Name of what it returns.
        axes: Names of the leading axes of the output, those whose length varies.
        name: Of the model, for messages.
        vocabulary: How many token ids there are.

    Raises:
        ExportError: The exporter failed.
    """
    graph.eval()  # the exporter brings all modules to the outermost one's mode: dropout would wake up
    tokens = _example_tokens(graph)
    example = torch.arange(2 * tokens, dtype=torch.int64).reshape(2, tokens) % vocabulary
    try:
        with warnings.catch_warnings(), _no_dump(), torch.inference_mode(mode=False), torch.no_grad():
            for category, message in _EXPORT_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=category)
            torch.onnx.export(
                graph,
                (example,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[output],
                dynamic_axes={INPUT: {0: "batch", 1: "tokens"}, output: dict(enumerate(axes))},
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"torch could not export {name}: {reason}") from error


def _example_tokens(graph: torch.nn.Module) -> int:
    """Returns how long the traced texts must be.

    A model that looks at neighbours alone leaves the mask out where a text is no longer than its window, and
    so would the graph that is traced of such a text.
    """
    configs = [module.config for module in graph.modules() if hasattr(module, "config")]
    windows = [getattr(config, name, None) for config in configs for name in _WINDOWS]
    return max([_EXAMPLE_TOKENS, *(window + 1 for window in windows if isinstance(window, int))])


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keeps torch from printing the whole graph when an export fails; the error says which operator it was.

    Its own switch does not work: the exporter asks whether the log is on without calling the function that
    knows, takes that for a yes, and switches it on.
    """
    log = torch._C._jit_onnx_log  # noqa: SLF001  the only handle that there is
    torch._C._jit_onnx_log = lambda *_: None  # noqa: SLF001
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log  # noqa: SLF001
