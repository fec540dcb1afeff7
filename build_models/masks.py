"""Attention masks of decoders, as functions of the length alone: no text is padded.

A decoder would make its masks itself, by code that cannot be exported; these say the same of one text.
The parity of padded batches, where the model makes its own, proves it.
"""

from typing import Any

import torch

_FULL, _SLIDING = "full_attention", "sliding_attention"


def layer_masks(config: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """Returns, for each kind of layer, what is added to the attention's scores: float32 `[1, 1, n, n]`.

    Args:
        config: The model's config in transformers.
        input_ids: Token ids, int64 `[texts, n]`.

    Returns:
        Name of a kind of layer to its mask; None where every token sees every other.
    """
    # Ones of the input's length, so that the length stays an unknown in the exported graph.
    positions = torch.ones_like(input_ids[:1]).cumsum(dim=1)
    distance = positions[0, :, None] - positions[0, None, :]  # how far back a token looks
    both_ways = bool(getattr(config, "use_bidirectional_attention", False)) or not getattr(
        config, "is_causal", True
    )
    causal = None if both_ways else distance < 0
    masks = {_FULL: causal}
    if _SLIDING in config.layer_types:
        far = distance.abs() if both_ways else distance
        beyond = far >= config.sliding_window
        masks[_SLIDING] = beyond if causal is None else beyond | causal
    return {kind: None if hidden is None else _added(hidden) for kind, hidden in masks.items()}


def _added(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.to(torch.float32)[None, None] * torch.finfo(torch.float32).min
