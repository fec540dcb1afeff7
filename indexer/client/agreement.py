"""Do all pools of a client serve one model? Pure."""

from indexer.errors import ModelMismatchError


class Agreement:
    """The one model of all pools: the caller's, or that of the first to answer.

    Args:
        fingerprint: The model that all must serve; "" for the one that the first to answer serves.
        mixed: Whether they may serve different models.
    """

    def __init__(self, fingerprint: str, *, mixed: bool) -> None:
        self._fingerprint, self._mixed = fingerprint, mixed
        self._named_by = ""
        self.by_caller = bool(fingerprint)

    def check(self, target: str, fingerprint: str) -> None:
        """Raises ModelMismatchError unless this is the one model of all pools."""
        if self._mixed or fingerprint == self._fingerprint:
            return
        if not self._fingerprint:
            self._fingerprint, self._named_by = fingerprint, f"worker {target}"
            return
        others = "the caller wants" if self.by_caller else f"{self._named_by} serves"
        raise ModelMismatchError(
            f"worker {target} serves model {fingerprint[:12]}, {others} model {self._fingerprint[:12]}: "
            "vectors of two models cannot be compared; use pools of one model, make a new client after a "
            "change of models, or allow it with mixed_models=True"
        )
