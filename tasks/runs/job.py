"""What a flow on a recipe works with: its run, what the recipe names, and the rows."""

from __future__ import annotations

from dataclasses import dataclass

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from retune.model_records import WHOLE, ScoredModel
from retune.modeling.head_files import has_head
from retune.preflight.memory_plan import MemoryPlan
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import combine, is_pending


@dataclass(frozen=True)
class Job:
    """One recipe under way.

    Attributes:
        run: The current run.
        inputs: The recipe's files and model.
        data: The rows, from their sources to chats.
        started_from: Version whose adapter training goes on from; None for the base, or a folder.
        plan: In which form models are scored, and where they are held; None where it is not known:
            as `scoring.form` says (auto: as they are stored), on the device.
    """

    run: RecipeRun
    inputs: Inputs
    data: PreparedData
    started_from: int | None = None
    plan: MemoryPlan | None = None

    @property
    def rows_known(self) -> bool:
        """Whether the rows are there; a plan may not know them yet."""
        return not is_pending([self.data.clean, self.data.split, self.data.chat])

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all classes, which a plan may not know yet; empty where rows have none."""
        return combine(lambda _: self.data.labels, self.data.rows)

    def hold(self, model: ScoredModel, *, adapted: bool) -> ScoredModel:
        """Return a model in the form that it is scored in, and where it is held.

        Args:
            model: What is scored.
            adapted: Whether it is an adapter over the weights that it was trained over, which are
                taken as they are where they are quantized.
        """
        if is_pending(model) or model.engine is not None:
            return model
        if self.plan is None:
            asked = self.run.recipe.scoring.form
            writes_in_four_bits = asked == "nf4" and not has_head(model)
            return model.held("nf4", WHOLE) if writes_in_four_bits else model
        form = "plain" if has_head(model) else self.plan.form
        stage = self.plan.of("score adapter" if adapted else "score base")
        return model.held(form, stage.place if stage else WHOLE)
