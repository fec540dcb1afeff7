"""What the server and a zygote tell each other: one datagram a message, descriptors travel beside it.

Both ends are on one machine and of one release. Guarantees: a message arrives whole or not at all, and with
all its descriptors; those received are closed by an `exec`.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_LARGEST_BYTES = 64 * 1024  # the largest message holds some hundred token ids; arbitrary
_MAX_DESCRIPTORS = 1


class Word(StrEnum):
    """What a message says, and its values."""

    LOAD = "load"  # server: probe (list of lists of token ids)
    LOADED = "loaded"  # zygote
    FAILED = "failed"  # zygote: error, message, doing; it ends
    FORK = "fork"  # server: number, slot, pin (a CPU or null), and the process's end of its socket
    FORKED = "forked"  # zygote: number, pid, and a pidfd
    REFUSED = "refused"  # zygote: number, message; the fork failed
    ENDED = "ended"  # zygote: number, code (as of subprocess: a signal is negative)
    PING = "ping"  # server
    PONG = "pong"  # zygote


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        word: What it says.
        values: Its values, as JSON has them.
        descriptors: The receiver's own copies; it closes them.
    """

    word: Word
    values: Mapping[str, Any]
    descriptors: tuple[int, ...] = ()


def pair() -> tuple[socket.socket, socket.socket]:
    """Returns two connected ends that keep messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(control: socket.socket, word: Word, descriptors: Sequence[int] = (), **values: Any) -> None:
    """Sends a message.

    Raises:
        OSError: The other end is gone, or reads nothing any more.
    """
    data = json.dumps({"word": word, **values}).encode()
    socket.send_fds(control, [data], list(descriptors))


def receive(control: socket.socket) -> Message | None:
    """Returns the next message; None when the other end is gone.

    Raises:
        BlockingIOError: The socket does not block and nothing is there.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(
            control, _LARGEST_BYTES, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return None
    if not data:
        return None
    values = json.loads(data)
    return Message(Word(values.pop("word")), values, tuple(descriptors))
