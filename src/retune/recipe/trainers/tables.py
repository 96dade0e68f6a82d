"""Short forms for tables of names: what is passed over with a reason, and what is refused."""

from __future__ import annotations

from retune.recipe.old_values import OldName, only

Table = dict[str, OldName]


def passed(why: str, names: str) -> Table:
    """Make entries that are passed over: they ask for nothing that changes what is learned.

    Args:
        why: Reason for the user.
        names: The names, with blanks between.

    Returns:
        A table.
    """
    return {name: OldName(None, why) for name in names.split()}


def refused(instead: str, names: str, *usual: object) -> Table:
    """Make entries that are refused where they ask for anything.

    Args:
        instead: What to write, or why it is not offered.
        names: The names, with blanks between.
        *usual: Values that ask for what happens anyway, beside null, false, 0 and what is empty.

    Returns:
        A table.
    """
    return {name: OldName(None, convert=only(*usual, instead=instead)) for name in names.split()}


def renamed(pairs: dict[str, str]) -> Table:
    """Make entries whose values stay as they are.

    Args:
        pairs: The other trainer's name, and the dotted path of today.

    Returns:
        A table.
    """
    return {name: OldName(new) for name, new in pairs.items()}
