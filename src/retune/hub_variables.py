"""Variables of the hub's library: what is wrong with one is said before the library is imported.

It turns them into numbers while it is imported, and puts a token into a header as it stands: what
comes out names neither the variable nor its value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from retune.errors import ConfigError

_NUMBERS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_ADDRESS = "HF_ENDPOINT"


def refuse_wrong_hub_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Look at the variables that would end a command wherever the library is imported.

    Args:
        environment: Variables of the process.

    Raises:
        ConfigError: One cannot be read; a token is not shown.
    """
    for name in _NUMBERS:
        value = environment.get(name)
        if value is not None and not _is_whole(value):
            raise ConfigError(
                f"{name}: found {value!r:.40}, expected a whole number of seconds. Correct it or "
                "unset it."
            )
    for name in _TOKENS:
        if not environment.get(name, "").isascii():
            raise ConfigError(
                f"{name}: a token has letters, digits and _ alone, and this one another sign in "
                "it. Copy it again, or unset it."
            )
    address = environment.get(_ADDRESS, "").strip()
    if address and not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{_ADDRESS}: found {address!r:.80}, expected an address such as "
            "https://huggingface.co. Correct it or unset it."
        )


def _is_whole(value: str) -> bool:
    try:
        int(value)
    except ValueError:
        return False
    return True
