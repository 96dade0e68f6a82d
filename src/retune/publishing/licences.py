"""The licence of a base, as its snapshot has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retune.errors import ConfigError

_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


@dataclass(frozen=True)
class Licence:
    """What a snapshot says of its licence.

    Attributes:
        name: Its id, such as ``apache-2.0``; None where the snapshot names none.
        files: Its texts; may be none.
    """

    name: str | None
    files: tuple[Path, ...]


def locate_base_folder(name: str, root: Path) -> Path | None:
    """Find the snapshot of a base on this machine.

    Args:
        name: A folder or a hub id.
        root: What a relative folder starts from.

    Returns:
        The folder; None where it is not here. Nothing is downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if not name:
        return None
    folder = root / Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def read_licence(base: Path | None) -> Licence:
    """Read what a snapshot says of its licence.

    Args:
        base: Its folder; None where it is not on this machine.

    Raises:
        ConfigError: The header of its README.md is broken.
    """
    if base is None:
        return Licence(None, ())
    files = {path for pattern in _FILES for path in base.glob(pattern) if path.is_file()}
    return Licence(_named(base / "README.md"), tuple(sorted(files)))


def _named(card: Path) -> str | None:
    import yaml
    from huggingface_hub import ModelCard

    if not card.is_file():
        return None
    try:
        found = ModelCard(card.read_text("utf-8"), ignore_metadata_errors=True).data.license
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"{card}: the header between the two --- lines cannot be read ({error}), so that the "
            "licence of the base is not known. Correct it."
        ) from error
    return found if isinstance(found, str) and found else None
