"""The tree of errors that the indexer raises; `__main__` prints each as one line."""

from typing import Any


class IndexerError(Exception):
    """Anything the indexer refuses or fails at; the message says what to do about it.

    Travels between processes as it is, whatever its constructor takes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves the constructor out: message and attributes are what counts."""
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[IndexerError], args: tuple[Any, ...], attributes: dict[str, Any]) -> IndexerError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigError(IndexerError):
    """A setting is not possible; exit code 2."""


class InputError(IndexerError):
    """An input cannot be read, lacks a column, holds an id twice or changed while it was read."""


class InputAwayError(InputError):
    """The store of an input does not answer; the same command may succeed later."""


class PlanError(IndexerError):
    """The index was planned for other inputs, settings or another model."""


class StoreError(IndexerError):
    """The index folder is in use, damaged, incomplete or no index at all."""


class StorageError(StoreError):
    """The file system refused a write: no space, no permission, read-only."""


class PoolError(IndexerError):
    """A pool cannot be reached, answers wrongly or refuses for good.

    Attributes:
        code: Name of the gRPC status, for example "INVALID_ARGUMENT"; "" where there was none.
        request_id: The call's `x-request-id`, to look for in the pool's log; "" where there was no call.
    """

    def __init__(self, message: str, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class ModelMismatchError(PoolError):
    """A pool serves another model than the one that made the index, or than the other pools."""


class AwayError(PoolError):
    """A pool is away for now; the same call may succeed later.

    Attributes:
        retry_after: Seconds that the pool asked to wait; 0 when it did not say.
    """

    def __init__(
        self, message: str, retry_after: float = 0.0, code: str = "UNAVAILABLE", request_id: str = ""
    ) -> None:
        super().__init__(message, code, request_id)
        self.retry_after = retry_after


class GaveUpError(PoolError):
    """Every pool was away for too long.

    Attributes:
        seconds: How long that was.
        reasons: What each of them said at last.
    """

    def __init__(self, seconds: float, reasons: str) -> None:
        super().__init__(f"gave up after {seconds:g} s without an answer: {reasons}", "UNAVAILABLE")
        self.seconds = seconds
        self.reasons = reasons


class EngineError(IndexerError):
    """The machines that should embed are not there, or went away."""


class ListenError(IndexerError):
    """The address cannot be listened on."""


class OverloadError(IndexerError):
    """Too much is asked for at this moment.

    Attributes:
        retry_after: Seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DrainError(IndexerError):
    """The server is to stop and takes nothing new."""


class BuildError(IndexerError):
    """FAISS cannot build or read the index."""


class StoppedError(BaseException):
    """A signal asked to stop; all that was committed is kept.

    Like KeyboardInterrupt no Exception: code that handles failures must not take it for one.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__("stopped; nothing committed is lost: run the same command to go on")
        self.signal = signal
