"""How a text ended, told from the error that it ended with. Pure."""

from worker.errors import NotServedError, OverloadError, RequestError, UnavailableError, WorkerError
from worker.statistics import Outcome

_OUTCOMES: dict[type[WorkerError], Outcome] = {
    RequestError: Outcome.REFUSED,
    NotServedError: Outcome.REFUSED,
    OverloadError: Outcome.OVERLOADED,
    UnavailableError: Outcome.UNAVAILABLE,
}


def outcome_of(error: WorkerError) -> Outcome:
    """Returns how texts ended that ended with an error; what the table does not name failed."""
    return _OUTCOMES.get(type(error), Outcome.FAILED)
