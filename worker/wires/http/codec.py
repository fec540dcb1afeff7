"""JSON by orjson: strict, bounded in depth, and fast with vectors.

Assumes the extra `http`, which is loaded when a codec is made.
"""

from base64 import b64encode
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.errors import ConfigError
from worker.wires.http.refusals import BAD_REQUEST, HttpError

# Vectors that are written in one go: some 0.1 ms each of 1024 numbers in decimal. Arbitrary.
_ROWS = 16


class Codec:
    """Reads and writes JSON.

    Raises:
        ConfigError: The extra is not installed.
    """

    def __init__(self) -> None:
        try:
            import orjson
        except ImportError as error:
            raise ConfigError(not_installed(error)) from None
        self._orjson = orjson

    def read(self, body: bytes) -> object:
        """Returns what a body holds.

        Raises:
            HttpError: It is no JSON (RFC 8259) in UTF-8, or too deep; the message has the place, no text.
        """
        try:
            value: object = self._orjson.loads(body)
        except self._orjson.JSONDecodeError as error:
            place = f"{error.msg}, at line {error.lineno} column {error.colno}"
            raise HttpError(BAD_REQUEST, f"the body is no JSON in UTF-8: {place}") from None
        return value

    def write(self, value: object) -> bytes:
        """Returns JSON of plain values."""
        return self._orjson.dumps(value)

    def embeddings(self, vectors: NDArray[np.float32], *, as_base64: bool) -> Iterator[bytes]:
        """Yields OpenAI's embedding objects of float32 `[rows, dim]`, a few at a time, commas between them.

        Numbers are the shortest decimals that are read as the same float32; base64 is little-endian float32.
        """
        little = np.ascontiguousarray(vectors, "<f4")
        for first in range(0, len(little), _ROWS):
            rows = little[first : first + _ROWS]
            objects = [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": b64encode(row).decode("ascii") if as_base64 else row,
                }
                for index, row in enumerate(rows, first)
            ]
            written = self._orjson.dumps(objects, option=self._orjson.OPT_SERIALIZE_NUMPY)
            yield (b"," if first else b"") + written[1:-1]


def not_installed(error: ImportError) -> str:
    """Returns what to say when the extra is not installed."""
    return (
        f"--http-listen needs uvicorn, httptools and orjson, and one is not installed ({error.name}): "
        "pip install 'embedpool[http]'"
    )
