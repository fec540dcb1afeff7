"""The bytes between the server and its compute processes.

A frame is a header (length of the body in bytes, kind) and a body. Numbers are little-endian. Pure:
no socket here. No pickle anywhere: neither side runs what the other sends.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = struct.Struct("<IB")
_COUNT = struct.Struct("<I")
_ANSWER = struct.Struct("<QIII")  # run_ns, rows, dim, bytes of the errors


class Kind(IntEnum):
    """What a frame says."""

    READY = 1  # process → server: it computes the bits that it should
    FAILED = 2  # process → server: it does not; the process ends
    RUN = 3  # server → process: compute these texts
    ANSWER = 4  # process → server: their vectors
    PING = 5  # server → process that has no run: say something
    PONG = 6  # process → server
    RUN_ALONE = 7  # server → process: compute these texts, no two of them in one tensor


@dataclass(frozen=True)
class Failure:
    """An error that crossed over: the name of its class, its text, and what was being done."""

    error: str
    message: str
    doing: str


@dataclass(frozen=True)
class Answer:
    """The outcome of a run.

    Attributes:
        vectors: float32 `[texts, dim]`; the row of a failed text holds zeros.
        failures: Row to what went wrong with it.
        run_ns: Time that the model took, in nanoseconds.
    """

    vectors: NDArray[np.float32]
    failures: Mapping[int, Failure]
    run_ns: int


def frame(kind: Kind, body: bytes) -> bytes:
    """Returns a whole frame."""
    return HEADER.pack(len(body), kind) + body


def pack_json(value: Mapping[str, Any]) -> bytes:
    """Returns the body of a FAILED frame."""
    return json.dumps(value).encode()


def unpack_json(body: bytes) -> dict[str, Any]:
    """Reads the body of a FAILED frame."""
    value: dict[str, Any] = json.loads(body)
    return value


def pack_run(texts: Sequence[NDArray[np.int64]]) -> bytes:
    """Returns the body of a RUN frame: count, lengths, then all ids as int32."""
    lengths = np.array([len(ids) for ids in texts], dtype="<u4")
    ids = texts[0] if len(texts) == 1 else np.concatenate(texts)
    return _COUNT.pack(len(texts)) + lengths.tobytes() + ids.astype("<i4").tobytes()


def unpack_run(body: bytes) -> list[NDArray[np.int64]]:
    """Reads the body of a RUN frame: ids int64 `[tokens]` of each text."""
    (count,) = _COUNT.unpack_from(body)
    lengths = np.frombuffer(body, dtype="<u4", count=count, offset=_COUNT.size)
    ids = np.frombuffer(body, dtype="<i4", offset=_COUNT.size + 4 * count).astype(np.int64)
    return np.split(ids, np.cumsum(lengths)[:-1])


def pack_answer(answer: Answer) -> bytes:
    """Returns the body of an ANSWER frame."""
    failures = {str(row): vars(failure) for row, failure in answer.failures.items()}
    errors = json.dumps(failures).encode() if failures else b""
    rows, dim = answer.vectors.shape
    vectors = answer.vectors.astype("<f4", copy=False).tobytes()
    return _ANSWER.pack(answer.run_ns, rows, dim, len(errors)) + errors + vectors


def unpack_answer(body: bytes) -> Answer:
    """Reads the body of an ANSWER frame; the vectors are a view of it."""
    run_ns, rows, dim, errors = _ANSWER.unpack_from(body)
    start = _ANSWER.size
    raw = json.loads(body[start : start + errors]) if errors else {}
    vectors = np.frombuffer(body, dtype="<f4", count=rows * dim, offset=start + errors).reshape(rows, dim)
    return Answer(vectors, {int(row): Failure(**failure) for row, failure in raw.items()}, run_ns)


class FrameReader:
    """Cuts a stream of bytes, however it arrives, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Takes bytes and yields the frames that they complete."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length, kind = HEADER.unpack_from(self._buffer)
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Kind(kind), body
