"""The worked examples of docs/extending.md: read from the page, applied to a copy of the code."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.tiny_models import REPOSITORY

PAGE = REPOSITORY / "docs" / "extending.md"
COPIED = ("src", "tasks", "flows", "generator", "assets/base_tiny")
_ANCHOR = re.compile(r"# (after|before|instead of):(.*)")


@dataclass(frozen=True)
class Block:
    """Code of the page, and where it goes.

    Attributes:
        addition: The two headings above it that say what is added.
        file: Relative to the repository.
        place: `new file`, or on which side of the anchor, or in its place.
        anchor: Lines of the file that follow one another, without the blanks around them.
        code: What is written.
    """

    addition: tuple[str, str]
    file: str
    place: str
    anchor: tuple[str, ...]
    code: str


def read_page() -> list[Block]:
    """Return the page's blocks in order."""
    blocks, above, file = [], ["", ""], ""
    lines = iter(PAGE.read_text("utf-8").splitlines())
    for line in lines:
        level, _, title = line.partition(" ")
        if level in ("##", "###"):
            above[len(level) - 2 :] = [title] if level == "###" else [title, ""]
        elif level == "####":
            file = title.strip("`")
        elif line == "```python":
            fenced: list[str] = []
            while (line := next(lines)) != "```":
                fenced.append(line)
            blocks.append(_read_block((above[0], above[1]), file, fenced))
    return blocks


def _read_block(addition: tuple[str, str], file: str, fenced: list[str]) -> Block:
    if fenced[0] == "# new file":
        return Block(addition, file, "new file", (), "\n".join(fenced[1:]) + "\n")
    found = [match for line in fenced if (match := _ANCHOR.fullmatch(line))]
    assert found, f"{file}: {fenced[0]!r} says no place"
    code = "\n".join(fenced[len(found) :]) + "\n"
    return Block(addition, file, found[0][1], tuple(each[2].strip() for each in found), code)


def apply(block: Block, root: Path) -> None:
    """Write a block into a copy; its anchor has to stand there once."""
    path = root / block.file
    if block.place == "new file":
        assert not path.exists(), f"{block.file} is there already"
        path.write_text(block.code, "utf-8")
        return
    lines = path.read_text("utf-8").splitlines(keepends=True)
    count = len(block.anchor)
    plain = [line.strip() for line in lines]
    places = [at for at in range(len(lines)) if tuple(plain[at : at + count]) == block.anchor]
    assert len(places) == 1, f"{block.file}: {block.anchor} stands there {len(places)} times"
    start, end = places[0], places[0] + count
    start = end if block.place == "after" else start
    end = start if block.place == "before" else end
    code = block.code
    if code.lstrip().startswith(("class ", "def ", "@")) and not code.startswith(" "):
        # Code in a page ends without blank lines, as ruff formats it.
        code = {"before": f"{code}\n\n", "after": f"\n\n{code.lstrip()}"}.get(block.place, code)
    path.write_text("".join([*lines[:start], code, *lines[end:]]), "utf-8")


def copy_extended(root: Path) -> Path:
    """Copy what runs, and apply the page to it.

    Args:
        root: Where to.

    Returns:
        The copy.
    """
    for name in COPIED:
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    for block in read_page():
        apply(block, root)
    return root
