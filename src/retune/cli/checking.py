"""`retune check`: everything that can be wrong before anything expensive starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.data_tables import print_findings
from retune.cli.disk_tables import print_disk
from retune.cli.memory_tables import print_plan
from retune.cli.runs.terminal_watcher import TerminalWatcher
from retune.clusters import expect_training_cluster
from retune.data.chats.templates import name_template
from retune.data.prepared import PreparedData
from retune.inputs import Inputs, locate_inputs
from retune.machine import count_scoring_devices
from retune.preflight.devices import plan_recipe_devices
from retune.preflight.disk_plan import refuse_full_disk
from retune.preflight.forecast import say_fit
from retune.preflight.steps import count_sequences, count_steps
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.recipe.sections import ScoringConfig
from retune.tracking import check_tracking
from retune.watching import WATCHER

if TYPE_CHECKING:
    from tasks.runs.job import Job


def check_recipe(recipe: Path, overrides: Sequence[str], *, show: int) -> None:
    """Check a recipe and print what it holds; prepared rows are kept for the run.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        show: Training rows to print, tokens that carry loss in colour.

    Raises:
        RetuneError: A run would not start.
    """
    console = open_console()
    loaded = load_recipe(recipe, overrides)
    _say(console, "recipe", f"{loaded.path}: {loaded.recipe.name}")
    with console.status("looking at model and data"), TerminalWatcher(console) as watcher:
        from flows.preparing import prepare_job
        from tasks.reporting import refuse_data, write_report_on_data
        from tasks.runs.opening import prepare_run
        from tasks.starting import choose_start

        WATCHER.set(watcher)
        run = prepare_run(loaded, direct=True)
        inputs = locate_inputs(loaded, with_weights=False)
        for note in run.store.check_writable():
            watcher.note(note)
        check_tracking(run.context["tracking_uri"])
        expect_training_cluster(loaded.recipe.training_cluster)
        _say_sources(console, loaded.recipe.scoring, inputs)
        job = choose_start(prepare_job(run, inputs))
    _say_work(console, loaded, job.data)
    for sentence in job.data.chat.prompts[1:]:  # the first names the template
        _say(console, "prompts", sentence)
    folder, report = write_report_on_data(job)
    print_findings(console, report)
    _say(console, "report", str(folder / "data.html"))
    _show_rows(console, job, show)
    _say_budget(console, job)
    refuse_data(job)
    _refuse_unfit_gate(console, job)
    _refuse_unfit_method(console, job)
    job = _refuse_unfit_machine(console, job)
    _refuse_unfit_judge(console, job)
    console.print(
        Text("Ready:", style="bold green").append(
            " retune run would start.", style="not bold default"
        )
    )


def _say_sources(console: Console, scoring: ScoringConfig, inputs: Inputs) -> None:
    from retune.scoring.counterfactual import expand_pairs, load_counterfactuals
    from retune.scoring.probes import load_probes
    from retune.scoring.robustness import load_paraphrases
    from retune.scoring.showing import label_of

    _say(console, "model", f"{inputs.base.model_id} ({inputs.base.folder})")
    _say(console, "template", name_template(inputs.template, inputs.base.folder))
    for row in inputs.rows:
        how = "detected" if row.located.detected else "stated"
        side = "held out" if row.held_out else "training"
        _say(console, "rows", f"{row.located.source.name}: {row.located.format} ({how}), {side}")
    if inputs.probes:
        cases = load_probes(inputs.probes.path)
        _say(console, "probes", f"{len(cases)} cases of {inputs.probes.path}")
    if inputs.counterfactuals:
        pairs = expand_pairs(*load_counterfactuals(inputs.counterfactuals.path))
        _say(console, "pairs", f"{len(pairs)} counterfactual ones of {inputs.counterfactuals.path}")
    if figures := scoring.text_figures:
        _say(console, "answers", f"scored by {', '.join(map(label_of, figures))}")
    if inputs.paraphrases:
        questions = load_paraphrases(inputs.paraphrases.path)
        _say(console, "rewordings", f"of {len(questions)} questions")


def _say_work(console: Console, loaded: LoadedRecipe, data: PreparedData) -> None:
    training, chat = loaded.recipe.training, data.chat
    sequences = count_sequences(chat.side("train"), training, loaded.recipe.prompt.max_length)
    steps = count_steps(sequences, training)
    passes = steps * training.batch_size / max(1, sequences)
    of_what = f"of {sequences:,} packed sequences" if training.packing else "rows"
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row(
        "rows", f"train {chat.train:,}, validation {chat.validation:,}, test {chat.test:,}"
    )
    share = chat.answer_tokens / max(1, chat.train_tokens)
    table.add_row("tokens", f"{chat.train_tokens:,} in training, {share:.1%} of them carry loss")
    table.add_row("longest", f"{chat.longest_tokens:,} of {loaded.recipe.prompt.max_length:,}")
    table.add_row(
        "steps",
        f"{steps:,} of {training.batch_size} {of_what}, {passes:.2g} passes, about "
        f"{chat.train_tokens * passes:,.0f} tokens",
    )
    devices = plan_recipe_devices(loaded.recipe)
    table.add_row("devices", f"training on {devices.describe()}")
    scoring = count_scoring_devices(loaded.recipe.scoring.runtime.devices)
    if scoring > 1:
        table.add_row("", f"scoring on {scoring}, which share the batches")
    console.print(table)


def _show_rows(console: Console, job: Job, show: int) -> None:
    from retune.data.chats.masks import show_rows
    from retune.data.chats.tokenizers import load_decoder

    if not show:
        return
    decode = load_decoder(job.inputs.base.folder)
    for row in show_rows(job.data.chat.side("train"), decode, show):
        text = Text()
        for piece, carries_loss in row.pieces:
            text.append(piece, style="bold green" if carries_loss else "dim")
        title = Text(f"row {row.row_id}: loss falls on the green tokens")
        console.rule(title, align="left")
        console.print(text, soft_wrap=True)


def _say_budget(console: Console, job: Job) -> None:
    from tasks.spending import look_at_budget

    budget = look_at_budget(job)
    if budget is not None:
        _say(console, "gate", budget.describe())


def _refuse_unfit_gate(console: Console, job: Job) -> None:
    from retune.gate.requirements import describe_power
    from tasks.gating import check_gate

    found = check_gate(job)
    if found is not None:
        _say(console, "gate", describe_power(found))


def _refuse_unfit_judge(console: Console, job: Job) -> None:
    from retune.scoring.judge.standing import describe_agreement
    from tasks.judging import check_judge

    judge = job.run.recipe.judge
    if judge is None:
        return
    with console.status("holding the judge against people"):
        found = check_judge(job)
    notes = describe_agreement(judge, found) if found else ["compares answers, and decides nothing"]
    for note in notes:
        _say(console, "judge", note)


def _refuse_unfit_machine(console: Console, job: Job) -> Job:
    """Refuse what does not fit; return the job that knows where its models are held."""
    from tasks.estimating import estimate_training, plan_memory
    from tasks.foreseeing import plan_disk

    if job.run.recipe.head is not None:
        # What the language model's head would take is no reason to refuse one of a few classes.
        _say(console, "memory", "not estimated: a classification head takes less than a writer")
    with console.status("counting memory"):
        found = estimate_training(job)
        job = plan_memory(job, found, judged=True)
        disk = plan_disk(job, found)
    if found is not None:
        _say(console, "memory", f"{say_fit(found)} (retune estimate says more)")
    if job.plan is not None:
        print_plan(console, job.plan)
    if disk is not None:
        print_disk(console, disk)
        refuse_full_disk(disk)
    return job


def _refuse_unfit_method(console: Console, job: Job) -> None:
    from tasks.modeling import check_method

    # On import it tells of a kernel that is not needed; a run has this in its log.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with console.status("putting the method on a meta model"):
        found = check_method(job)
    share = found.trainable_parameters / max(1, found.total_parameters)
    _say(
        console,
        "method",
        f"{job.run.recipe.method.kind}, training {found.trainable_parameters:,} of "
        f"{found.total_parameters:,} parameters ({share:.2%})",
    )


def _say(console: Console, what: str, text: str) -> None:
    # Without markup: a path such as data/[ab].jsonl is no style.
    console.print(f"{what:<9} {text}", highlight=False, markup=False, soft_wrap=True)
