"""A number divided in proportions, into whole numbers."""

from __future__ import annotations

from collections.abc import Sequence


def share_out(count: int, wanted: Sequence[int], available: Sequence[int]) -> list[int]:
    """Divide a number in given proportions, by the largest remainder.

    Args:
        count: What is divided.
        wanted: The proportions, as whole numbers; of equal remainders the first one wins.
        available: Most that each part can take; what one cannot take goes to the others.

    Returns:
        Whole numbers whose sum is `count`, or all that is available where that is less.
    """
    given = [0] * len(wanted)
    parts = [part for part in range(len(wanted)) if wanted[part] and available[part]]
    while parts and count > 0:
        total = sum(wanted[part] for part in parts)
        quotas = {part: count * wanted[part] // total for part in parts}
        rest = count - sum(quotas.values())
        by_remainder = sorted(parts, key=lambda part: (-(count * wanted[part] % total), part))
        for part in by_remainder[:rest]:
            quotas[part] += 1
        full = [part for part in parts if quotas[part] > available[part]]
        for part in full or parts:
            given[part] = available[part] if full else quotas[part]
            count -= given[part]
        parts = [part for part in parts if part not in full] if full else []
    return given
