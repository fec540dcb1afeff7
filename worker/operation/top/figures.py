"""Numbers as people read them at a glance, in few columns, and lines of small bars. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.operation.top.interval import Quantile

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Glyphs:
    """The signs that a terminal can show: bars from low to high, a separator, what stands for more."""

    bars: str
    dot: str
    more: str


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "·", "…")
ASCII = Glyphs("_.-=+*#@", ",", "~")


def glyphs_of(encoding: str) -> Glyphs:
    """Returns the signs that text of an encoding can hold."""
    try:
        (UNICODE.bars + UNICODE.dot + UNICODE.more).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return UNICODE


def rate(value: float | None) -> str:
    """Returns a rate in 6 columns at most, "-" for none known."""
    if value is None:
        return "-"
    for limit, form in ((9.995, f"{value:.2f}"), (99.95, f"{value:.1f}"), (99_999.5, f"{value:,.0f}")):
        if value < limit:
            return form
    return f"{value / 1e3:,.0f}k" if value < 9_999_500 else f"{value / 1e6:,.0f}M"


def seconds(value: Quantile | None) -> str:
    """Returns a time in 7 columns at most, with a sign before one that lies above all bounds."""
    if value is None:
        return "-"
    sign = ">" if value.beyond else ""
    if value.seconds < 0.9995:
        return f"{sign}{_digits(value.seconds * 1e3)} ms"
    return f"{sign}{_digits(value.seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def size(count: int) -> str:
    """Returns bytes in 8 columns at most."""
    value, unit = float(count), _BINARY[0]
    for unit in _BINARY:
        if value < 999.5 or unit == _BINARY[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def duration(value: float) -> str:
    """Returns how long something lasts, in its two largest units."""
    whole = int(value)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def bars(values: Sequence[float | None], width: int, glyphs: Glyphs) -> str:
    """Returns the last `width` values as bars from 0 to the largest of them; a blank for one not known."""
    shown = list(values)[-width:] if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0)
    steps = len(glyphs.bars)
    return "".join(
        " " if value is None else glyphs.bars[min(steps - 1, int(value / top * steps)) if top else 0]
        for value in shown
    )
