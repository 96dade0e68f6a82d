"""Blocks to sections: each heading opens one, and its path says below which it stands."""

from __future__ import annotations

from collections.abc import Iterable

from retune.collecting.content_blocks import Block
from retune.collecting.records import Section


def build_sections(blocks: Iterable[Block]) -> tuple[Section, ...]:
    """Group blocks by heading.

    Args:
        blocks: Headings and bodies, in order.

    Returns:
        Sections; one whose heading is followed by the next heading has no blocks.
    """
    sections: list[Section] = []
    open_headings: list[Block] = []
    body: list[str] = []

    def close() -> None:
        if body or open_headings:
            sections.append(
                Section(
                    path=tuple(each.text for each in open_headings),
                    level=open_headings[-1].level if open_headings else 0,
                    blocks=tuple(body),
                )
            )
            body.clear()

    for block in blocks:
        if block.level:
            close()
            open_headings = [each for each in open_headings if each.level < block.level]
            open_headings.append(block)
        else:
            body.append(block.text)
    close()
    return tuple(sections)
