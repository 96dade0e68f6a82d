"""One error tree: every failure that a user can act on is a `RetuneError`.

A message says what was found, where, what was expected and what to do next. The exit code is
what `retune` returns to the shell, so that a script can tell a wrong recipe from a wrong model.
"""

from __future__ import annotations

from typing import ClassVar


class RetuneError(Exception):
    """Base of all errors that retune raises on purpose.

    Args:
        message: One message for a person, without a traceback's help.
    """

    exit_code: ClassVar[int] = 1
    heals: ClassVar[bool] = False
    """Whether the same may work a little later, with nothing changed by a person."""

    def __init__(self, message: str) -> None:
        # It may quote half a letter out of a file, which could neither be shown nor sent.
        message = message.encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[RetuneError], tuple[str]]:
        # Errors cross process borders (stage process, SQL worker): rebuild from the message alone.
        return (type(self), (self.message,))


class ConfigError(RetuneError):
    """The recipe, an override or the environment asks for something that cannot be."""

    exit_code = 2


class DoesNotFit(ConfigError):
    """A training, or a stage around it, needs more memory than there is."""


class DataError(RetuneError):
    """A data file is missing, broken, empty, or does not hold what the recipe says."""

    exit_code = 3


class ArtifactError(RetuneError):
    """A stored artifact is missing, damaged, or cannot be written."""

    exit_code = 4


class StageError(RetuneError):
    """A stage failed or its process died."""

    exit_code = 5


class StageDied(StageError):
    """The stage process died (a crash, a kill, no memory): worth another try."""

    heals = True


class OutOfMemory(StageError):
    """A device or the machine has not the memory that a stage asked for."""


class StepOutOfMemory(OutOfMemory):
    """It was asked for by the rows of a training step: fewer at a time may do."""


class ScoringError(RetuneError):
    """A score could not be computed at all (single rows become unscored instead)."""

    exit_code = 6


class ServiceError(RetuneError):
    """A service that the run needs (Prefect API, MLflow, shared storage) does not answer."""

    exit_code = 7
    heals = True


INTERRUPTED = "Interrupted. Finished stages and checkpoints are kept: run again to go on."


class Interrupted(RetuneError):
    """The user or the scheduler stopped the run; finished stages and checkpoints are kept."""

    exit_code = 130
