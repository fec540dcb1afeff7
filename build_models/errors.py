"""The tree of errors that a build raises; each message is one line that says what to do.

The command line turns `GateError` into exit code 3 and every other `BuildError` into 1.
"""


class BuildError(Exception):
    """Anything a build refuses or fails at."""


class SourceError(BuildError):
    """The model named is missing, damaged, or of a form that cannot be built."""


class ExportError(BuildError):
    """The model could not be exported, or the exported graph does not compute what the model does."""


class GraphError(BuildError):
    """A graph has operators that cannot run here, or not the operators that its recipe promises."""


class EvaluationError(BuildError):
    """Evaluation data is missing, incomplete, or judges nothing."""


class OutputError(BuildError):
    """The bundle cannot be written where it was asked for."""


class GateError(BuildError):
    """Every recipe lost more quality than the gate allows; nothing servable was written."""


class TrainingError(BuildError):
    """A training run cannot go on, or not with what was found of it."""
