"""The tree of errors that the worker raises.

Which error becomes which gRPC status is one table in `wires/status.py`.
"""


class WorkerError(Exception):
    """Anything the worker refuses or fails at; the message says what to do about it."""


class BundleError(WorkerError):
    """A bundle is missing, incomplete, damaged or of another schema."""


class TokenizerError(WorkerError):
    """The tokenizer itself failed on a text."""


class ModelError(WorkerError):
    """The model could not be loaded or could not compute a run."""


class ConfigError(WorkerError):
    """A setting is out of range or contradicts another."""


class RequestError(WorkerError):
    """A request or one of its texts breaks a documented limit or names what is not there."""


class NotServedError(WorkerError):
    """A request names a model, or a version of it, that is not served here."""


class OverloadError(WorkerError):
    """Too much is in flight already.

    Attributes:
        retry_after: Seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(WorkerError):
    """The pool starts, drains or has no live process: the same request may succeed later or elsewhere."""


class PoisonError(WorkerError):
    """The process that computed this text ended, twice: it is not tried again."""


class ListenError(WorkerError):
    """The address cannot be listened on."""


class ReloadRunningError(WorkerError):
    """A reload was asked for while another one is under way."""
