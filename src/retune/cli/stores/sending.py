"""`retune send`: what MLflow did not get while it was away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.places import locate_services
from retune.errors import ArtifactError, RetuneError, ServiceError
from retune.spine.durable_files import disk_error
from retune.tracking import check_tracking, connect, default_artifact_root, unreachable
from retune.tracking.sending import SentRun, send_unsent
from retune.tracking.unsent import UnsentEntries


def send_kept(recipe: Path | None, store: Path, *, as_json: bool) -> None:
    """Send what a store keeps for MLflow, and print of each run what was sent.

    Args:
        recipe: The recipe that says where store and MLflow are; None takes `store`.
        store: Store folder, without a recipe.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        ConfigError: The recipe is wrong, or the address of MLflow cannot be one.
        ServiceError: MLflow is still away; what it got until then is not sent again.
        ArtifactError: Something stays although MLflow answers: it has no such run.
    """
    console = open_console(stderr=as_json)
    root, tracking = locate_services(recipe, store)
    unsent = UnsentEntries(root)
    done: list[SentRun] = []
    away: RetuneError | None = None
    waiting = unsent.runs()
    if waiting:
        try:
            check_tracking(tracking.uri)
            with console.status("sending"):
                # What was sent before it broke off is told, too.
                done.extend(send_unsent(connect(tracking.uri), unsent, default_artifact_root(root)))
        except ServiceError as error:
            away = error
        except OSError as error:
            # Requests that fail are of this kind, too; the disk's own have a file's name.
            away = (
                disk_error(Path(error.filename), error)
                if error.filename
                else unreachable(tracking.uri, error)
            )
        except Exception as error:  # noqa: BLE001 - MLflow lets through what its driver raises
            away = unreachable(tracking.uri, error)
    _print(console, done)
    still = unsent.runs()
    if not waiting:
        console.print(Text(f"{root}: MLflow has got everything."), soft_wrap=True)
    if as_json:
        print(json.dumps(_as_json(done, still)))
    if away is not None:
        raise type(away)(f"{len(still)} of {len(waiting)} runs are still to be sent. {away}")
    if left := [each for each in done if each.left]:
        told = "; ".join(f"{each.kept_as}: {each.left}" for each in left)
        raise ArtifactError(f"{len(left)} of {len(waiting)} runs stay: {told}.")


def _print(console: Console, done: Sequence[SentRun]) -> None:
    sent = [each for each in done if each.run_id]
    if not sent:
        return
    table = Table(title="sent", title_justify="left")
    for column in ("run in MLflow", "entries", "refused"):
        table.add_column(column, overflow="fold")
    for each in sent:
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(each.kinds.items()))
        table.add_row(Text(each.run_id or ""), Text(kinds), Text("\n".join(each.refused)))
    console.print(table)


def _as_json(done: Sequence[SentRun], still: Sequence[str]) -> dict[str, Any]:
    return {
        "sent": [
            {
                "run": each.run_id,
                "kept_as": each.kept_as,
                "entries": dict(each.kinds),
                "refused": list(each.refused),
            }
            for each in done
            if each.run_id
        ],
        "left": [{"kept_as": each.kept_as, "reason": each.left} for each in done if each.left],
        "still_kept": list(still),
    }
