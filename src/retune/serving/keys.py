"""API keys: known by their digests, and compared in a time that tells nothing.

A file has one key a line, ``NAME:SHA256``, the digest in hexadecimal digits, with limits of its own
behind it where it has any (``requests=60 tokens=20000``, a minute); lines that begin with ``#`` are
comments. The variable RETUNE_API_KEYS holds keys as they are, parted by commas.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from retune.errors import ConfigError
from retune.serving.rates import KeyRates, Rate
from retune.text_files import read_text_file

VARIABLE = "RETUNE_API_KEYS"
_LINE = re.compile(r"(?P<name>[\w.@-]+):(?P<digest>[0-9a-f]{64})(?P<limits>(\s+\S+)*)")
_LIMIT = re.compile(r"(?P<what>requests|tokens)=(?P<number>[1-9][0-9]{0,11})")


class ApiKeys:
    """The keys that a server lets in.

    Args:
        digests: sha256 of each key, by the name of its holder; none lets everybody in.
        rates: What holders may ask for who have limits of their own.
    """

    def __init__(self, digests: Mapping[str, str], rates: Mapping[str, Rate] | None = None) -> None:
        self._digests, self._rates = dict(digests), dict(rates or {})

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holder(self, authorization: str | None) -> str | None:
        """Return who sends a key, None for nobody who is known.

        Args:
            authorization: The header, ``Bearer KEY``.
        """
        kind, _, key = (authorization or "").partition(" ")
        digest = sha256(key.strip().encode()).hexdigest()
        found = None
        # All of them, whichever it is.
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known) and kind.lower() == "bearer":
                found = name
        return found

    def rates(self, default: Rate) -> KeyRates:
        """Return what every holder may ask for.

        Args:
            default: Limits of those that have none of their own.
        """
        own = {name: self._rates.get(name, Rate()) for name in self._digests}
        return KeyRates({name: rate.over(default) for name, rate in own.items()})


def read_keys(file: Path | None, environment: Mapping[str, str]) -> ApiKeys:
    """Read the keys of a server.

    Args:
        file: One key a line; None for no file.
        environment: May have `VARIABLE`.

    Raises:
        ConfigError: The file cannot be read, a line is no name with a digest, a name stands there
            twice, or there is no key where keys are named: everybody would be let in.
    """
    digests: dict[str, str] = {}
    rates: dict[str, Rate] = {}
    for number, line in enumerate(_lines(file), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ConfigError(
                f"{file}:{number}: expected NAME:SHA256, the digest of a key in 64 hexadecimal "
                "digits; `printf %s KEY | sha256sum` prints it. Keys themselves are not kept. "
                "Limits stand behind it: requests=60 tokens=20000."
            )
        name = found["name"]
        if name in digests or name.startswith(f"{VARIABLE}-"):
            taken = "is of the variable's keys" if name not in digests else "has a key already"
            raise ConfigError(
                f"{file}:{number}: the name {name} {taken}; give each key a name of its own, "
                "such as ana-2."
            )
        digests[name] = found["digest"]
        rates[name] = _read_limits(found["limits"], f"{file}:{number}")
    if file is not None and not digests:
        raise ConfigError(
            f"{file}: there is no key in it, so that everybody would be let in. Put one there, "
            "NAME:SHA256 a line, or leave --keys out."
        )
    variable = environment.get(VARIABLE, "")
    given = [each for each in (part.strip() for part in variable.split(",")) if each]
    if variable and not given:
        raise ConfigError(
            f"{VARIABLE} is set and holds no key, so that everybody would be let in. Set keys, "
            "parted by commas, or unset it."
        )
    for number, key in enumerate(given, 1):
        digests[f"{VARIABLE}-{number}"] = sha256(key.encode()).hexdigest()
    return ApiKeys(digests, rates)


def _read_limits(text: str, where: str) -> Rate:
    limits: dict[str, int] = {}
    for part in text.split():
        found = _LIMIT.fullmatch(part)
        if found is None or found["what"] in limits:
            wrong = "stands there twice" if found else "is no limit"
            raise ConfigError(
                f"{where}: {part[:80]!r} {wrong}; expected requests=60, tokens=20000 or both, "
                "each a number from 1 on: so many a minute."
            )
        limits[found["what"]] = int(found["number"])
    return Rate(**limits)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file with API keys.")
    return read_text_file(file, ConfigError).splitlines()
