"""What is served: one model a generation, and who still uses it.

A bundle that takes over from another makes a new generation. Guarantees: a generation is retired once, and
not before its last lease was returned. Assumes one event loop; `load_model` alone may run elsewhere.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.bundle import Bundle, Manifest, Task, fingerprint, read_bundle
from worker.cpu_flags import check_cpu
from worker.errors import BundleError
from worker.tokenizer import Tokenizer

# A short text and one of some length, so that they take other ways through the kernels. Arbitrary; few, for
# each new process embeds them before it serves.
_PROBE_TEXTS = (
    "health",
    "A process that is to serve embeds this text first, and must find the numbers that the one before found.",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What one generation serves.

    Attributes:
        generation: 1 for the first, one more with each that takes over.
        bundle: The files, with the manifest that lies beside them.
        manifest: The one served: the bundle's, or one with fewer tokens and a fingerprint of its own.
        tokenizer: Cuts at the served manifest's longest input.
    """

    generation: int
    bundle: Bundle
    manifest: Manifest
    tokenizer: Tokenizer


@dataclasses.dataclass(frozen=True)
class ReloadResult:
    """What a reload did.

    Attributes:
        previous: The model that served before.
        model: The one that serves now.
        changed: False where both are the same: nothing was done.
    """

    previous: Model
    model: Model
    changed: bool


def served_manifest(manifest: Manifest, max_tokens: int) -> Manifest:
    """Returns the manifest cut at `max_tokens`; 0, or a number above the model's own, leaves it as it is.

    Longer texts get other vectors than uncut, so the result has a fingerprint of its own.
    """
    if not 0 < max_tokens < manifest.max_tokens:
        return manifest
    name = fingerprint(
        manifest.files,
        max_tokens=max_tokens,
        pooling=manifest.pooling,
        normalize=manifest.normalize,
        prompts=manifest.prompts,
        query_prompt=manifest.query_prompt,
        document_prompt=manifest.document_prompt,
        recipe=manifest.recipe,
        labels=manifest.labels,
    )
    return dataclasses.replace(manifest, max_tokens=max_tokens, fingerprint=name)


def load_model(path: Path, generation: int, max_tokens: int) -> Model:
    """Reads a bundle that can be served here; blocks while it reads the files.

    Args:
        path: The bundle's folder.
        generation: Number of the model.
        max_tokens: Tokens of one text, below the model's own; 0 for the model's.

    Raises:
        BundleError: It cannot be read, is damaged, computes no vectors, or other ones on this CPU.
    """
    bundle = read_bundle(path.resolve())  # a link that is turned to the next bundle leaves this one as it is
    if bundle.manifest.task is not Task.EMBEDDING:
        raise BundleError(
            f"bundle {bundle.path} is built for the task {bundle.manifest.task}, the worker serves "
            f"{Task.EMBEDDING}; build with --task {Task.EMBEDDING}, or run this one in process "
            "(build_models.ner.tagger)"
        )
    check_cpu(bundle)
    manifest = served_manifest(bundle.manifest, max_tokens)
    return Model(generation, bundle, manifest, Tokenizer(bundle.tokenizer, manifest.max_tokens))


def probe_ids(model: Model) -> list[list[int]]:
    """Returns the token ids of the texts that a model embeds to show that it works; one text at least."""
    return [one.ids.tolist() for one in model.tokenizer.encode(_PROBE_TEXTS) if len(one.ids)] or [[0]]


class Leases:
    """Who uses which model.

    Args:
        first: The model that is current at the start.
        on_unused: Called once with each model that is no longer current and no longer leased.
    """

    def __init__(self, first: Model, on_unused: Callable[[Model], None]) -> None:
        self.current = first
        self._on_unused = on_unused
        self._counts: Counter[int] = Counter()

    @contextmanager
    def lease(self) -> Iterator[Model]:
        """Yields the current model; it is served until the lease is returned, whatever becomes current."""
        model = self.current
        self._counts[model.generation] += 1
        try:
            yield model
        finally:
            self._counts[model.generation] -= 1
            self._retire(model)

    def take_over(self, model: Model) -> Model:
        """Makes a model current; returns the one before."""
        previous, self.current = self.current, model
        self._retire(previous)
        return previous

    def _retire(self, model: Model) -> None:
        if model is not self.current and not self._counts[model.generation]:
            del self._counts[model.generation]
            self._on_unused(model)
