"""One stage by hand: ``python -m retune.stage NAME REQUEST``, from its saved request."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import ValidationError

from retune.commands import shell_line
from retune.errors import ConfigError, RetuneError
from retune.proxies import settle_proxies
from retune.records import Record
from retune.spine.stage import TABLE, StageRequest, load_table, run_stage
from retune.streams import settle_streams


def main(arguments: list[str]) -> int:
    """Run one stage by hand: ``python -m retune.stage NAME request.json``.

    Args:
        arguments: Name and request; of a stage of another table also its ``module:name``.

    Returns:
        The exit code.
    """
    settle_streams()
    settle_proxies()
    try:
        record = _run_by_hand(arguments)
    except RetuneError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    # ASCII: it may be read by a program, whatever the terminal knows.
    print(json.dumps(record.model_dump(mode="json"), indent=2))
    return 0


def _run_by_hand(arguments: list[str]) -> Record:
    stages = load_table(arguments[2] if len(arguments) == 3 else TABLE)
    if len(arguments) not in (2, 3) or arguments[0] not in stages:
        found = shell_line(*arguments) if arguments else "nothing"
        raise ConfigError(
            f"found {found}; expected python -m retune.stage NAME REQUEST, with NAME one of "
            f"{', '.join(stages)} and REQUEST a file below requests/NAME/ of the store; behind "
            f"them, for other stages, the place of their table, such as {TABLE}."
        )
    name, path, *_ = arguments
    try:
        request = StageRequest.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: is no request of a stage ({error.error_count()} faults)."
        ) from error
    record: Record = run_stage(stages[name], request)
    return record


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
