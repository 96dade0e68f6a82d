"""Counts, shares, sizes and times as text for people; rounding happens here and nowhere earlier."""

from __future__ import annotations

ABSENT = "–"
"""What stands for a figure that does not exist."""


def count(number: int | None) -> str:
    """Write a count with separators: ``12,345``."""
    return ABSENT if number is None else f"{number:,}"


def percent(part: int, whole: int) -> str:
    """Write a share with one decimal; ``< 0.1 %`` where that would look like none."""
    if not whole:
        return ABSENT
    share = 100 * part / whole
    return "< 0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def show_count(number: int | None) -> str:
    """Write a count in short: ``950``, ``12.3 k``, ``4.56 M``."""
    if number is None:
        return ABSENT
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def show_seconds(seconds: float) -> str:
    """Write a duration: ``0.4 s``, ``75 s``, ``12 min 5 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def show_bytes(size: int) -> str:
    """Write a size in MiB, or GiB from one on."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
