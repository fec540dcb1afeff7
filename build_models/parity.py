"""Proof that the exported graph computes what the torch model computes, on texts of several shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from build_models.errors import ExportError

# Both sides sum in float32 in another order: the rounding of six layers is near 1e-6 of the largest
# component. A wrong position, mask or pooling moves a vector by more than 1e-3 of it.
RELATIVE_TOLERANCE = 1e-4
_LONGEST_OF_SEVERAL, _LONGEST = 512, 2048  # tokens; see `shapes`
_SEED = 0


class Reference(Protocol):
    """The model that a graph is compared with."""

    vocabulary: int
    padding_id: int

    def reference(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the vectors of padded texts."""
        ...


class Runner(Protocol):
    """What runs the graph."""

    def embed(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Returns the vectors of texts without padding."""
        ...


@dataclass(frozen=True)
class ShapeParity:
    """The largest difference found on one shape.

    Attributes:
        shape: `(texts, tokens)`.
        padded: Whether the reference read the texts padded to one length.
        difference: Largest absolute difference of a component.
        scale: Largest absolute component of the reference.
    """

    shape: tuple[int, int]
    padded: bool
    difference: float
    scale: float

    @property
    def equal(self) -> bool:
        """Whether the difference is rounding."""
        return self.difference <= RELATIVE_TOLERANCE * self.scale


def shapes(max_tokens: int) -> tuple[tuple[int, int], ...]:
    """Returns the shapes to compare, none longer than the model reads.

    Attention keeps scores of every token for every other: of 8,192 tokens they fill 3 GB in a model of 12
    heads. So several texts are compared up to 512 tokens, and one up to 2,048; both are beyond the windows
    of models that look at neighbours alone.
    """
    wanted = [(1, 3), (2, 17), (7, 129), (3, min(max_tokens, _LONGEST_OF_SEVERAL))]
    if max_tokens > _LONGEST_OF_SEVERAL:
        wanted.append((1, min(max_tokens, _LONGEST)))
    return tuple(dict.fromkeys((texts, min(tokens, max_tokens)) for texts, tokens in wanted))


def check_parity(model: Reference, session: Runner, max_tokens: int) -> tuple[ShapeParity, ...]:
    """Compares the graph in a session with the model, on every shape and on one padded batch.

    Raises:
        ExportError: They differ; the message names the shape and the difference.
    """
    results = []
    for lengths in _batches(max_tokens):
        result = _compare(model, session, lengths)
        if not result.equal:
            raise ExportError(
                f"the exported graph differs from torch on shape {result.shape}"
                f"{' with padding' if result.padded else ''}: largest difference {result.difference:.2e}, "
                f"wanted {RELATIVE_TOLERANCE * result.scale:.2e} at most; this model cannot be built"
            )
        results.append(result)
    return tuple(results)


def _batches(max_tokens: int) -> Iterator[list[int]]:
    for texts, tokens in shapes(max_tokens):
        yield [tokens] * texts
    yield [min(length, max_tokens) for length in (3, 17, 9, 5)]


def _compare(model: Reference, session: Runner, lengths: list[int]) -> ShapeParity:
    shape = (len(lengths), max(lengths))
    random = np.random.default_rng([_SEED, *shape])
    ids = random.integers(0, model.vocabulary - 1, shape, dtype=np.int64)
    ids += ids >= model.padding_id  # all but the padding id, which only padding has
    mask = (np.arange(shape[1]) < np.asarray(lengths)[:, None]).astype(np.int64)
    wanted = model.reference(np.where(mask == 1, ids, model.padding_id), mask)
    found = session.embed([row[:length] for row, length in zip(ids, lengths, strict=True)])
    return ShapeParity(
        shape=shape,
        padded=len(set(lengths)) > 1,
        difference=float(np.abs(found - wanted).max()) if np.isfinite(found).all() else float("inf"),
        scale=float(np.abs(wanted).max()),
    )
