"""Prefect's settings: read for the first time, with advice where that fails.

Prefect reads the environment, ``.env``, ``prefect.toml`` and ``pyproject.toml`` of the current
folder, and a profile in its home, all while it is imported. What is wrong with one of them comes
out as an error of whatever library met it, or not at all: a profile that is missing is passed over
for another one, which may be another server.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

import dotenv
from pydantic import ValidationError

from retune.errors import ConfigError

_PROBE_BYTES = 64 * 1024
"""What a database and a result need at least; an empty file fits on a full disk."""

_TABLES: dict[str, tuple[str, ...]] = {"prefect.toml": (), "pyproject.toml": ("tool", "prefect")}
"""Files of the current folder, and below which keys Prefect's settings stand."""


def read_prefect_settings() -> None:
    """Import Prefect's settings, and look whether its home can be used.

    Raises:
        ConfigError: A file or a variable that Prefect reads is wrong; the message names it.
    """
    _refuse_broken_files()
    try:
        # The settings are read as the context of the process is made.
        import prefect.context
        import prefect.settings
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Prefect's settings cannot be read ({type(error).__name__}: {error}). {_other_home()}"
        ) from error
    _refuse_missing_profile()
    _refuse_closed_home(prefect.settings.PREFECT_HOME.value())


def say_where(name: str) -> str:
    """Say where a setting of Prefect was made, for messages.

    Args:
        name: Of the variable, such as ``PREFECT_API_URL``.

    Returns:
        Such as ``in the environment`` or ``in /project/.env``.
    """
    if name in os.environ:
        return "in the environment"
    if name in _dotenv():
        return f"in {Path('.env').absolute()}"
    keys = name.removeprefix("PREFECT_").lower().split("_", 1)
    for path, table in _toml_tables():
        if keys[0] in table:
            return f"in {path}"
    return f"in a profile of {_profiles_path()}; `prefect config view --show-sources` shows it"


def _refuse_broken_files() -> None:
    for path in (_profiles_path(), *map(Path, (".env", "prefect.toml", "pyproject.toml"))):
        try:
            if path.name != ".env" and path.is_dir():
                raise ConfigError(
                    f"{path.absolute()}: Prefect reads it, and it is a folder, expected a file. "
                    "Correct PREFECT_PROFILES_PATH, or move the folder away."
                )
            if not path.is_file():
                continue
            text = path.read_text("utf-8")
            if path.suffix == ".toml":
                tomllib.loads(text)
        except OSError as error:
            raise ConfigError(
                f"{path.absolute()}: Prefect reads it, and it cannot be read "
                f"({error.strerror or error}). {_other_home()}"
            ) from error
        except ValueError as error:  # no UTF-8, no TOML
            raise ConfigError(
                f"{path.absolute()}: Prefect reads it, and it is "
                f"{'no UTF-8' if isinstance(error, UnicodeDecodeError) else 'no TOML'} ({error}). "
                "Correct it, or start from another folder."
                if path.parent == Path()
                else f"{path}: Prefect's profiles cannot be read ({error}). Correct the file, or "
                f"remove it. {_other_home()}"
            ) from error


def _profiles_path() -> Path:
    """Return the file that Prefect takes its profiles from."""
    stated = os.environ.get("PREFECT_PROFILES_PATH")
    if stated:
        return Path(stated)
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect")
    try:
        return home.expanduser() / "profiles.toml"
    except RuntimeError as error:
        raise ConfigError(f"{home}: {error}. {_other_home()}") from error


def _refuse_missing_profile() -> None:
    from prefect.settings import load_profiles

    profiles = load_profiles()
    stated = os.environ.get("PREFECT_PROFILE")
    active = stated or profiles.active_name
    if active in profiles.names:
        return
    where = "PREFECT_PROFILE" if stated else f"{_profiles_path()}: active"
    raise ConfigError(
        f"{where}: there is no profile {active!r}; found {', '.join(sorted(profiles.names))}. "
        f"Prefect would take another one without asking. Correct it, or "
        f"{'unset PREFECT_PROFILE' if stated else 'run `prefect profile use NAME`'}."
    )


def _refuse_closed_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=home, prefix=".retune-") as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        stated = "PREFECT_HOME" in os.environ
        name = f"PREFECT_HOME={home}" if stated else f"{home}, where PREFECT_HOME is not set"
        raise ConfigError(
            f"{name}: Prefect keeps its database and results there, and it cannot be written "
            f"({error.strerror or error}). {_other_home()}"
        ) from error


def _other_home() -> str:
    return "Set PREFECT_HOME to a folder that you may read and write, on a disk with space."


def explain(error: ValidationError) -> str:
    """Name the variables whose values Prefect refuses, and what it says of them."""
    lines = []
    for each in error.errors():
        # Prefect names the field of a section; a user knows the variable that has this value.
        given = str(each["input"])
        names = [name for name, value in _stated() if value == given]
        if not each["loc"]:
            # An error of the settings as a whole does not say of which; addresses are parsed there.
            broken = [(name, value) for name, value in _stated() if not _is_address(name, value)]
            names = [name for name, _ in broken] or names
            given = broken[0][1] if broken else given
        if names or each["type"] != "default_factory_not_called":
            name = names[0] if names else ".".join(map(str, each["loc"]))
            where = f" ({say_where(name)})" if names else f" of {error.title}"
            lines.append(f"{name}{where}: found {given:.100}; {each['msg']}")
    return "\n".join([*lines, "Prefect cannot start with this: correct or unset it."])


def _is_address(name: str, value: str) -> bool:
    try:
        return not name.endswith("_URL") or bool(urlsplit(value).scheme)
    except ValueError:
        return False


def _stated() -> Iterator[tuple[str, str]]:
    for source in (os.environ, _dotenv()):
        for name, value in source.items():
            if name.startswith("PREFECT_") and value is not None:
                yield name, value


def _dotenv() -> dict[str, str | None]:
    return dotenv.dotenv_values(".env") if Path(".env").is_file() else {}


def _toml_tables() -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, keys in _TABLES.items():
        path = Path(name)
        if path.is_file():
            table: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
            for key in keys:
                table = table.get(key, {})
            yield path.absolute(), table
