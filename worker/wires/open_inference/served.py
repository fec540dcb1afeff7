"""By which names and versions the model can be called. Pure.

A version is the beginning of the model's fingerprint: a client that names one never gets vectors of another
model, which a number that is counted up could not promise.
"""

import re
from collections.abc import Sequence

from worker.bundle import Manifest
from worker.errors import NotServedError

# Hex digits of a fingerprint that are told as a version, and must be named at least: 48 bits, so that no two
# models of one owner share them.
VERSION_DIGITS = 12
# What a model's name may not have where it is a folder, as in Triton's repositories.
_NO_NAME = re.compile(r"[^A-Za-z0-9]+")


def names_of(manifest: Manifest, served_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of a model: its own first, the same as the name of a folder, and those given."""
    return (manifest.name, _NO_NAME.sub("_", manifest.name), *served_names)


def version_of(manifest: Manifest) -> str:
    """Returns the version of a model."""
    return manifest.fingerprint[:VERSION_DIGITS]


def check_served(manifest: Manifest, served_names: Sequence[str], name: str, version: str) -> None:
    """Does nothing where a model is called so; an empty name or version asks for whichever is served.

    Raises:
        NotServedError: It is not.
    """
    if name and name not in (names := names_of(manifest, served_names)):
        known = ", ".join(dict.fromkeys(names))
        raise NotServedError(
            f"the model {name[:80]!r} is not served here, but: {known}; leave the name empty for whichever is"
        )
    if version and not (len(version) >= VERSION_DIGITS and manifest.fingerprint.startswith(version)):
        raise NotServedError(
            f"the version {version[:80]!r} is not served here, but {version_of(manifest)}, which is the "
            "beginning of the model's fingerprint; leave the version empty for whichever is"
        )
