"""Errors in the words of the wire that they leave by. Pure.

Below the wires a request has `texts` and `options`, as in `embedpool.v1`; elsewhere they have other names.
"""

import re
from dataclasses import dataclass

from worker.errors import WorkerError

_NAMES = re.compile(r"^(?:texts\[(\d+)\]|options\.|texts\b)")


@dataclass(frozen=True)
class Words:
    """What a wire calls things.

    Attributes:
        text: One of the texts; `{}` stands for its index, where there can be several.
        texts: All of them.
        option: What stands before the name of an option.
    """

    text: str
    texts: str
    option: str = ""


def reworded(error: WorkerError, words: Words) -> WorkerError:
    """Returns an error that says the same of what this wire's caller has sent."""
    message = str(error)
    found = _NAMES.match(message)
    if found is None:
        return error
    if found[1] is not None:
        name = words.text.format(found[1])
    else:
        name = words.option if found[0] == "options." else words.texts
    # With what it knows beside its message; how its class is made does not matter.
    said = type(error).__new__(type(error), name + message[found.end() :])
    said.__dict__.update(error.__dict__)
    return said
