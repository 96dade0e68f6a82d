"""Lets vLLM find the adapter of a registered version in MLflow, by the name in a request.

`text-to-sql-3` and `text-to-sql/3` are version 3, `text-to-sql@champion` the one that the alias
points to when it is first asked for. vLLM keeps what it has loaded under a name for as long as it
runs: it never looks again where an alias points to. So retune's server asks by versions.

The adapter is the one that lies among the artifacts of the version's run. An adapter of another
base than vLLM serves is not given to it: of the same shape it would be loaded, and answer wrongly.

Settings are variables: `MLFLOW_TRACKING_URI` (an address of a server, as `mlflow-skinny` knows no
database), `RETUNE_RESOLVER_CACHE` (a folder for adapters; `~/.cache/retune/adapters`), and
`RETUNE_RESOLVER_BASES` (further names of the base that vLLM serves, parted by commas).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

LOG = logging.getLogger("retune.resolver")
_ADAPTER = "adapter"
"""Folder of a run's artifacts that the adapter lies in."""
_CONFIG = "adapter_config.json"
_BASE_TAG = "retune.base_model"
_ASKED = re.compile(r"(?P<name>.+?)(?:@(?P<alias>[A-Za-z][\w-]*)|[/-](?P<version>[0-9]{1,9}))")


class Asked(NamedTuple):
    """What a name in a request stands for: a version by its number, or by an alias."""

    name: str
    version: int | None
    alias: str | None


def read_name(text: str) -> Asked | None:
    """Return what a name stands for; None where it is of no registered version.

    Args:
        text: As the request has it.
    """
    found = _ASKED.fullmatch(text)
    if found is None:
        return None
    number = found["version"]
    return Asked(found["name"], int(number) if number else None, found["alias"])


class RetuneResolver(LoRAResolver):
    """Finds adapters of registered versions.

    Args:
        cache: Folder that adapters are downloaded to, once each.
        bases: Further names of the base that is served.
    """

    def __init__(self, cache: Path, bases: tuple[str, ...] = ()) -> None:
        self._cache, self._bases = cache, bases

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """Return where the adapter of a name lies; None where there is none to be served.

        Args:
            base_model_name: What vLLM serves.
            lora_name: The name in the request.
        """
        asked = read_name(lora_name)
        if asked is None:
            return None
        try:
            folder = await asyncio.to_thread(self._find, asked, base_model_name)
        except Exception as error:  # noqa: BLE001 - vLLM would answer 500
            LOG.error(
                "%s: MLflow gives no adapter (%s: %s)", lora_name, type(error).__name__, error
            )
            return None
        if folder is None:
            return None
        # The number is put by vLLM, which counts them.
        return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))

    def _find(self, asked: Asked, base: str) -> Path | None:
        from mlflow import MlflowClient

        client = MlflowClient()
        if asked.alias is None:
            version = client.get_model_version(asked.name, str(asked.version))
        else:
            version = client.get_model_version_by_alias(asked.name, asked.alias)
            LOG.warning(
                "%s@%s is version %s, and stays so here until vLLM is started anew",
                *(asked.name, asked.alias, version.version),
            )
        if not version.run_id or not client.list_artifacts(version.run_id, _ADAPTER):
            LOG.error("version %s of %s has no adapter in MLflow", version.version, asked.name)
            return None
        key = f"{os.environ.get('MLFLOW_TRACKING_URI', '')}\n{version.run_id}"
        folder = self._cache / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not (folder / _CONFIG).is_file():
            self._download(client, version.run_id, folder)
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
        trained_on = {config.get("base_model_name_or_path"), version.tags.get(_BASE_TAG)} - {None}
        if config.get("peft_type") != "LORA" or not trained_on & {base, *self._bases}:
            LOG.error(
                "version %s of %s is %s over %s, and LoRA over %s is served here; where that is "
                "the same base, name it in RETUNE_RESOLVER_BASES",
                *(version.version, asked.name, config.get("peft_type")),
                *(", ".join(sorted(trained_on)) or "no known base", base),
            )
            return None
        return folder

    def _download(self, client: object, run_id: str, folder: Path) -> None:
        """Bring an adapter, whole or not at all: several processes of vLLM may do so at once."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache) as partial:
            client.download_artifacts(run_id, _ADAPTER, partial)  # type: ignore[attr-defined]
            try:
                (Path(partial) / _ADAPTER).rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                # Another one was first, and brought the same.


def register() -> None:
    """Tell vLLM of the resolver; the entry point `retune_resolver` of `vllm.general_plugins`."""
    cache = os.environ.get("RETUNE_RESOLVER_CACHE") or Path.home() / ".cache/retune/adapters"
    bases = os.environ.get("RETUNE_RESOLVER_BASES", "").split(",")
    named = tuple(each.strip() for each in bases if each.strip())
    LoRAResolverRegistry.register_resolver("retune", RetuneResolver(Path(cache), named))
