"""What a flow on a recipe works with: its run, what the recipe names, and the rows."""

from __future__ import annotations

from dataclasses import dataclass

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from tasks.run import RecipeRun
from tasks.stage_task import combine, is_pending


@dataclass(frozen=True)
class Job:
    """One recipe under way.

    Attributes:
        run: The current run.
        inputs: The recipe's files and model.
        data: The rows, from their sources to chats.
    """

    run: RecipeRun
    inputs: Inputs
    data: PreparedData

    @property
    def rows_known(self) -> bool:
        """Whether the rows are there; a plan may not know them yet."""
        return not is_pending([self.data.clean, self.data.split, self.data.chat])

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all classes, which a plan may not know yet; empty where rows have none."""
        return combine(lambda _: self.data.labels, self.data.rows)
