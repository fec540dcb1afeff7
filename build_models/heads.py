"""What follows the transformer, in torch: pooling with a mask and without, and the modules after it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from build_models.errors import SourceError
from build_models.modules import Activation, Dense, Step
from worker.bundle import Pooling

_ACTIVATIONS: Mapping[Activation, type[torch.nn.Module]] = {
    Activation.IDENTITY: torch.nn.Identity,
    Activation.TANH: torch.nn.Tanh,
    Activation.RELU: torch.nn.ReLU,
    Activation.GELU: torch.nn.GELU,
}
# In the library's order of preference; the second is a pickle, which is read as tensors and nothing else.
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def pool(hidden: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Returns the vectors `[texts, width]` of token vectors `[texts, tokens, width]` without padding."""
    if pooling is Pooling.MEAN:
        return hidden.mean(dim=1)
    if pooling is Pooling.MAX:
        return hidden.amax(dim=1)
    if pooling is Pooling.CLS:
        return hidden[:, 0]
    if pooling is Pooling.LAST:
        return hidden[:, -1]
    tokens = torch.ones_like(hidden[:1, :, :1]).cumsum(dim=1)  # 1, 2, 3 … along the text
    if pooling is Pooling.MEAN_SQRT_LENGTH:
        return hidden.sum(dim=1) / tokens[:, -1].sqrt()
    return (hidden * (tokens / tokens.sum())).sum(dim=1)


def masked_pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Returns the vectors `[texts, width]` of padded texts, as sentence-transformers computes them.

    Args:
        hidden: Token vectors `[texts, tokens, width]`.
        mask: 1 for tokens, 0 for the padding at the end, of `hidden`'s type, `[texts, tokens, 1]`.
        pooling: How token vectors become the text's vector.
    """
    if pooling is Pooling.MEAN:
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
    if pooling is Pooling.MEAN_SQRT_LENGTH:
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9).sqrt()
    if pooling is Pooling.WEIGHTED_MEAN:
        positions = torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype)
        weights = mask * positions[None, :, None]
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
    if pooling is Pooling.MAX:
        return hidden.masked_fill(mask == 0, float("-inf")).amax(dim=1)
    if pooling is Pooling.CLS:
        return hidden[:, 0]
    last = mask.squeeze(-1).sum(dim=1).long() - 1
    return hidden[torch.arange(hidden.shape[0]), last]


def load_steps(steps: Sequence[Step], width: int) -> tuple[torch.nn.Sequential, int]:
    """Returns the modules after the pooling with their weights, and the length of the vector they give.

    Args:
        steps: What is computed of the pooled vector, in order.
        width: Length of the pooled vector.

    Raises:
        SourceError: Weights are missing or damaged, or a module does not fit to the one before it.
    """
    modules: list[torch.nn.Module] = []
    for step in steps:
        wanted = step.inputs if isinstance(step, Dense) else step.dimension
        if wanted != width:
            raise SourceError(
                f"{step.folder} reads vectors of {wanted} values, it gets {width}: the folder is damaged"
            )
        if isinstance(step, Dense):
            linear = torch.nn.Linear(step.inputs, step.outputs, bias=step.bias)
            modules += [_filled(linear, step.folder, "linear."), _ACTIVATIONS[step.activation]()]
            width = step.outputs
        else:
            modules.append(_filled(torch.nn.LayerNorm(step.dimension), step.folder, "norm."))
    return torch.nn.Sequential(*modules).eval().requires_grad_(requires_grad=False), width


def _filled(module: torch.nn.Module, folder: Path, prefix: str) -> torch.nn.Module:
    file = next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
    if file is None:
        raise SourceError(f"{folder} has no weights, neither {' nor '.join(_WEIGHT_FILES)}")
    try:
        if file.suffix == ".safetensors":
            tensors = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        found = {name.removeprefix(prefix): tensor.float() for name, tensor in tensors.items()}
        module.load_state_dict(found)
    except Exception as error:  # the readers share no base class
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise SourceError(f"cannot read the weights in {file}: {reason.strip()}") from error
    return module
