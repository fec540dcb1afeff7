"""Tensors of texts as the Open Inference Protocol writes them. Pure."""

import struct
from collections.abc import Sequence

from worker.errors import RequestError

_LENGTH = struct.Struct("<I")


def count_of(shape: Sequence[int], most: int) -> int:
    """Returns how many texts a tensor of this shape has, which is `[n, 1]` or `[n]`.

    Args:
        shape: Sizes as the caller wrote them.
        most: Texts that a request may have.

    Raises:
        RequestError: It has another shape, no text, or too many.
    """
    if len(shape) not in (1, 2) or tuple(shape[1:]) not in ((), (1,)):
        shown = ", ".join(map(str, shape[:8])) + (", …" if len(shape) > 8 else "")
        raise RequestError(f"input text has the shape [{shown}], it must be [n, 1] or [n]")
    if shape[0] < 1:
        raise RequestError(f"input text has {shape[0]} elements, send one text at least")
    if shape[0] > most:
        raise RequestError(f"input text has {shape[0]} elements, the limit max_batch_items is {most}")
    return shape[0]


def decode_raw(raw: bytes, count: int) -> list[bytes]:
    """Returns the elements of a raw BYTES tensor: each its length (uint32, little-endian), then its bytes.

    Raises:
        RequestError: It does not hold just `count` elements.
    """
    elements = []
    at = 0
    for index in range(count):
        start = at + _LENGTH.size
        if start > len(raw):
            raise RequestError(
                f"raw_input_contents[0] has {len(raw)} bytes, they end before the length of element {index}; "
                f"the shape promises {count} elements"
            )
        (size,) = _LENGTH.unpack_from(raw, at)
        if size > len(raw) - start:
            raise RequestError(
                f"raw_input_contents[0]: element {index} is said to have {size} bytes, "
                f"{len(raw) - start} are left; write each as uint32 little-endian length, then its bytes"
            )
        at = start + size
        elements.append(raw[start:at])
    if at != len(raw):
        raise RequestError(
            f"raw_input_contents[0] has {len(raw) - at} bytes behind the {count} elements that the shape "
            "promises"
        )
    return elements
