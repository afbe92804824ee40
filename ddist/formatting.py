"""Lengths of time and sizes as people write and read them."""

import re

from ddist.errors import DdistError

_DURATION = re.compile(
    r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?"
)


def parse_duration(text: str | float) -> float:
    """Return the seconds in ``"20m"``, ``"1h30m"`` or ``"45"`` (plain numbers are seconds).

    Raise a :class:`DdistError` for anything else, also for zero.
    """
    match = _DURATION.fullmatch(str(text).strip().lower())
    amounts = {} if match is None else {k: float(v) for k, v in match.groupdict().items() if v}
    seconds = 3600 * amounts.get("h", 0.0) + 60 * amounts.get("m", 0.0) + amounts.get("s", 0.0)
    if seconds <= 0:
        raise DdistError(
            f"A time such as 20m, 90s, 1h30m or 45 (seconds) was expected, but {text!r} came: "
            f"write for example budget=20m."
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Return a time such as ``45 s``, ``3 min 20 s``, ``25 min`` or ``3 h 05 min``."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def duration(seconds: float) -> str:
    """Return a time such as ``8.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float) -> str:
    """Return a size such as ``313.6 kB``: in decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.95 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
