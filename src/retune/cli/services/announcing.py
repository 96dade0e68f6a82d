"""A line of the ledger that a command wrote, told to Prefect's server where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retune.cli.services.prefect_settings import read_prefect_settings
from retune.registry.records import LedgerEntry

if TYPE_CHECKING:
    from tasks.retrain.announcing import EventName


def prefect_is_set() -> bool:
    """Tell whether a server of Prefect is named; without one an event would start one.

    Raises:
        ConfigError: What Prefect reads of its settings is wrong.
    """
    read_prefect_settings()
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() is not None


def announce_line(event: EventName, line: LedgerEntry) -> None:
    """Emit ``retune.<event>`` about a line, so that automations act on it.

    Args:
        event: What happened.
        line: As it stands in the ledger.

    Raises:
        ConfigError: What Prefect reads of its settings is wrong.
    """
    read_prefect_settings()
    from tasks.retrain.announcing import announce

    announce(
        event,
        line.model_name,
        reason=line.reason,
        figures=line.figures,
        details={
            "outcome": line.kind,
            "actor": line.actor,
            "version": line.version,
            "from_version": line.from_version,
            "champion": line.to_version,
            "at": line.at,
        },
    )
