"""Where an engine of one's own is, and the key that it wants."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from retune.errors import ConfigError

KEY_VARIABLE = "RETUNE_ENGINE_KEY"


def read_engine_address(text: str) -> str:
    """Return the address of an engine as requests are put behind it, ``http://HOST:PORT/v1``.

    Args:
        text: Of a person, with or without ``/v1``.

    Raises:
        ConfigError: It is no address of a server, or holds a name or a key.
    """
    try:
        parts = urlsplit(text)
        # Both raise for what is none.
        named, _ = parts.hostname, parts.port
    except ValueError:
        named, parts = None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "--engine: the address holds a name or a password, which logs would show. Leave it "
            f"out, and put the engine's key into the variable {KEY_VARIABLE}."
        )
    if parts.scheme not in ("http", "https") or not named or parts.query or parts.fragment:
        raise ConfigError(
            f"--engine {text}: expected the address of a server, such as http://127.0.0.1:8001."
        )
    return text.rstrip("/").removesuffix("/v1") + "/v1"


def read_engine_key(environment: Mapping[str, str]) -> str | None:
    """Return the key that the engine wants; None where the variable is not set or empty.

    Args:
        environment: Variables.

    Raises:
        ConfigError: It cannot be sent in a header; it is not repeated.
    """
    key = environment.get(KEY_VARIABLE, "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise ConfigError(
            f"{KEY_VARIABLE}: a blank, a line break or a letter beyond ASCII is in it, and it "
            "could not be sent. Set the key alone."
        )
    return key or None
