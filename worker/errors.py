"""The tree of errors that the worker raises.

Which error becomes which gRPC status is one table in `service.py`.
"""


class WorkerError(Exception):
    """Anything the worker refuses or fails at; the message says what to do about it."""


class BundleError(WorkerError):
    """A bundle is missing, incomplete, damaged or of another schema."""


class ModelError(WorkerError):
    """The model could not be loaded or could not compute a run."""
