"""Blocks to sections: each heading opens one, and its path says below which it stands."""

from __future__ import annotations

from collections.abc import Iterable

from retune.collecting.html.content_blocks import Block
from retune.collecting.records import Section


def build_sections(blocks: Iterable[Block]) -> tuple[Section, ...]:
    """Group blocks by heading.

    Args:
        blocks: Headings, bodies and ends of sections, in order.

    Returns:
        Sections; one whose heading is followed by the next heading has no blocks.
    """
    sections: list[Section] = []
    path: list[Block] = []
    body: list[Block] = []
    opened: Block | None = None

    def close() -> None:
        if body or opened:
            sections.append(
                Section(
                    path=tuple(each.text for each in path),
                    level=path[-1].level if path else 0,
                    blocks=tuple(block.text for block in body),
                    heading_letters=opened.letters if opened else 0,
                    block_letters=tuple(block.letters for block in body),
                )
            )
            body.clear()

    for block in blocks:
        if block.level:
            close()
            path = [each for each in path if each.level < block.level]
            opened = None if block.ends else block
            path += [opened] if opened else []
        else:
            body.append(block)
    close()
    return tuple(sections)
