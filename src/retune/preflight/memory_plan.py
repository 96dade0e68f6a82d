"""A plan of memory for every stage of a run, and the refusal of what fits no way. Needs no torch.

For each stage: in which form its model is held and where, and the peak on the device and in RAM.
The stages are told their places (`retune.modeling.placement.StagePlaces`), and do what is planned.
"""

from __future__ import annotations

from collections.abc import Iterator

from retune.errors import DoesNotFit
from retune.model_records import StagePlace
from retune.modeling.placement import Candidate, Room, StagePlaces
from retune.pages.numbers import show_bytes
from retune.recipe.recipe import Recipe
from retune.recipe.sections.scoring import Form
from retune.records import Record

MERGING = ("merge_adapter", "bundle_adapter")
JUDGE = "judge"
"""What is told of a judge of this machine, whoever it judges."""
SCORED_WHOLE = ("score base", "score merged")
"""What is told of base, released model and champion alike."""


class StagePlan(Record):
    """One stage: how its model is held, and its peaks."""

    stage: str
    """Its name, with the role of the model where it is run for several."""
    held: Candidate
    fits: bool
    place: StagePlace = StagePlace()
    note: str = ""


class MemoryPlan(Record):
    """All stages that hold a model, in the order of a run."""

    room: Room
    form: Form
    """That base, released model and champion are scored in."""
    stages: tuple[StagePlan, ...]
    devices: int = 1
    """That the training is spread over; peaks on a device are of one of them, those in RAM of all
    processes of this machine."""

    @property
    def fits(self) -> bool:
        """Whether every stage does."""
        return all(each.fits for each in self.stages)

    @property
    def device_bytes(self) -> int:
        """Return the highest peak on the device."""
        return max(each.held.device_bytes for each in self.stages)

    @property
    def ram_bytes(self) -> int:
        """Return the highest peak in RAM."""
        return max(each.held.ram_bytes for each in self.stages)

    def notes(self) -> Iterator[str]:
        """Say where models are not held plain and whole on the device."""
        if self.form != "plain":
            yield "memory: base, released model and champion are scored in 4 bits (scoring.form)"
        elsewhere = [each for each in self.stages if each.place.placement != "device"]
        if elsewhere:
            said = ", ".join(f"{each.stage} {each.place.placement}" for each in elsewhere)
            yield f"memory: not whole on the device, and slower for it: {said}"
        exact = [each.stage for each in self.stages if each.place.exact_heap]
        if exact:
            yield (
                f"memory: {', '.join(exact)} gives back at once what it frees, and is slower for "
                "it: kept, it could take more than there is"
            )

    def places(self) -> StagePlaces:
        """Return what the stages are told."""
        return StagePlaces(stages={name.stage.split(" ")[0]: name.place for name in self.stages})

    def of(self, stage: str) -> StagePlan | None:
        """Return the plan of a stage by its name here."""
        return next((each for each in self.stages if each.stage == stage), None)


def refuse_unplanned(plan: MemoryPlan, recipe: Recipe) -> None:
    """Refuse a run of which a stage fits no way.

    Args:
        plan: The plan.
        recipe: Names the settings that may be changed.

    Raises:
        DoesNotFit: The message says which stages, what they need, and what would help.
    """
    unfit = [each for each in plan.stages if not each.fits]
    if not unfit:
        return
    room = plan.room
    has = f"{show_bytes(room.device)} on the device, {show_bytes(room.ram)} of RAM"
    if room.kind == "cpu":
        has = f"{show_bytes(room.ram)} of RAM"
    named = "; ".join(
        f"{each.stage} needs at least {_say_peaks(each.held, room)}" for each in unfit
    )
    raise DoesNotFit(
        f"device.memory: there are {has}, and {len(unfit)} of {len(plan.stages)} stages fit no "
        f"way: {named}. {_say_help(plan, unfit, recipe)} retune estimate shows all stages."
    )


def _say_peaks(held: Candidate, room: Room) -> str:
    where = f" ({held.placement})"
    if room.kind == "cpu":
        return show_bytes(held.ram_bytes) + where
    return f"{show_bytes(held.device_bytes)} and {show_bytes(held.ram_bytes)} of RAM{where}"


def _say_help(plan: MemoryPlan, unfit: list[StagePlan], recipe: Recipe) -> str:
    ways = []
    if recipe.device.placement != "auto":
        ways.append("device.placement: auto lets each stage be held where it fits")
    if recipe.scoring.form == "plain" and recipe.quantization.kind == "nf4":
        ways.append("scoring.form: auto lets models be scored in 4 bits")
    names = {each.stage for each in unfit}
    if any(name.startswith("score") for name in names) and recipe.scoring.runtime.batch_size > 1:
        ways.append("a lower scoring.runtime.batch_size takes less for scoring")
    replicas = recipe.scoring.runtime.devices
    if any(name.startswith("score") for name in names) and replicas != "auto" and replicas > 1:
        ways.append("a lower scoring.runtime.devices holds fewer models in RAM")
    if "train_adapter" in names:
        ways.append("retune estimate shows settings that take less for training")
    if "train_preferences" in names and recipe.dpo is not None and recipe.dpo.batch_size > 1:
        ways.append("a lower dpo.batch_size takes less for preferences")
    if "train_rewards" in names:
        ways.append(
            "a lower grpo.prompts_per_step, grpo.answers or grpo.max_new_tokens takes less for "
            "rewards"
        )
    if names & {*MERGING} and recipe.merge.check_rows > 1:
        ways.append("a lower merge.check_rows takes less for merging")
    if JUDGE in names:
        ways.append("a smaller judge.local, or a judge.endpoint on another machine")
    if any(each.held.ram_bytes > plan.room.ram for each in unfit) and plan.room.kind == "cuda":
        ways.append("or take a machine with more RAM (device.ram)")
    if not ways:
        return "Take a smaller model, or a machine with more memory."
    return f"What helps: {'; '.join(ways)}."
