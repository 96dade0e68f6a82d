"""Proxies of the environment: this machine is never asked through one, and none ends a run.

The own Prefect server listens on 127.0.0.1; through ``HTTP_PROXY`` it would never answer. And a
client of httpx cannot be built at all where a variable holds an address that httpx does not know
(``socks5://`` without socksio, ``socks4://``, a typing slip), whatever it is to ask.
"""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit
from urllib.request import getproxies

from retune.errors import ConfigError

_LOG = logging.getLogger(__name__)
_SCHEMES = ("http", "https", "all")
_OWN = ("127.0.0.1", "localhost", "::1", "0.0.0.0")
_SET_ASIDE: dict[str, str] = {}


def settle_proxies() -> None:
    """Keep this machine out of all proxies, and set aside the ones that no client can use.

    Call it before the first client is built. What is set aside is said once in the log; a plain
    download then goes without it, and `refuse_lost_proxy` is for those that must not.
    """
    found = getproxies()
    if not any(found.get(scheme) for scheme in _SCHEMES):
        # Importing httpx takes a while, and most machines have no proxy.
        return
    for scheme in _SCHEMES:
        if problem := _problem(found.get(scheme, "")):
            _set_aside(scheme, problem)
    _spare_own_machine(found.get("no", ""))


def refuse_lost_proxy(what: str) -> None:
    """Refuse to ask the network directly where a proxy was wanted and had to be set aside.

    Args:
        what: Who asks, for the message.

    Raises:
        ConfigError: A proxy was set aside.
    """
    if _SET_ASIDE:
        told = "; ".join(f"{name}: {problem}" for name, problem in _SET_ASIDE.items())
        raise ConfigError(
            f"{what} would go past the proxy of the environment ({told}). Correct it or unset it."
        )


def shown_proxy(address: str) -> str | None:
    """Return the variable whose proxy a request to an address goes through; None without one.

    Args:
        address: An http or https address.
    """
    import httpx

    scheme = urlsplit(address).scheme
    host = httpx.URL(address).host
    found = getproxies()
    spared = [each.strip().lstrip(".") for each in found.get("no", "").split(",")]
    if "*" in spared or any(each and host.endswith(each) for each in spared):
        return None
    return next((f"{name.upper()}_PROXY" for name in (scheme, "all") if found.get(name)), None)


def _problem(proxy: str) -> str | None:
    import httpx

    if not proxy:
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        with httpx.HTTPTransport(proxy=httpx.Proxy(address)):
            return None
    except ImportError:
        return f"{urlsplit(address).scheme} proxies need the package socksio (pip install socksio)"
    except (ValueError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {str(error).replace(proxy, '...'):.200}"


def _set_aside(scheme: str, problem: str) -> None:
    name = f"{scheme.upper()}_PROXY"
    for each in (name, name.lower()):
        os.environ.pop(each, None)
    _SET_ASIDE[name] = problem
    _LOG.warning("%s is set aside: %s", name, problem)


def _spare_own_machine(spared: str) -> None:
    entries = [each.strip().strip("[]") for each in spared.split(",") if each.strip()]
    if "*" in entries:
        return
    known = entries
    if not _is_readable(",".join(entries)):
        known = [each for each in entries if _is_readable(each)]
        _LOG.warning("NO_PROXY: %s cannot be read", ", ".join(set(entries) - set(known)))
    value = ",".join([*known, *(each for each in _OWN if each not in known)])
    # Some libraries read the one, some the other.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = value


def _is_readable(entries: str) -> bool:
    """Say whether httpx can build a client with these entries in NO_PROXY."""
    import httpx

    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = entries
    try:
        httpx.Client().close()
    except (ValueError, httpx.InvalidURL):
        return False
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
    return True
