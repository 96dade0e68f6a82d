"""`retune check`: everything that can be wrong before anything expensive starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.watching import TerminalWatcher
from retune.data.tables import read_rows
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from retune.records import ChatRef, Side
from retune.scoring.probes import load_probes
from retune.stage import run_stage
from retune.stages import FORMAT_CHAT, LOAD_ROWS, SPLIT_ROWS
from retune.tracking import check_tracking
from retune.watching import WATCHER


def check_recipe(recipe: Path, overrides: Sequence[str], *, show: int) -> None:
    """Check a recipe and print what it holds; prepared rows are kept for the run.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        show: Training rows to print, tokens that carry loss in colour.

    Raises:
        RetuneError: A run would not start.
    """
    console = Console()
    loaded = load_recipe(recipe, overrides)
    console.print(f"recipe    {loaded.path}: {loaded.recipe.name}", highlight=False)
    with console.status("looking at model and data"), TerminalWatcher(console) as watcher:
        WATCHER.set(watcher)
        chat, base_folder = _prepare(recipe, overrides, console)
    console.print(_counts(chat))
    _show_rows(console, chat, base_folder, show)
    console.print("[bold green]Ready:[/] retune run would start.")


def _prepare(recipe: Path, overrides: Sequence[str], console: Console) -> tuple[ChatRef, Path]:
    from tasks.running import prepare_run

    run = prepare_run(load_recipe(recipe, overrides))
    check_tracking(run.context["tracking_uri"])
    found = locate_inputs(run.loaded)
    base = found.base
    console.print(f"model     {base.model_id} ({base.folder})", highlight=False, soft_wrap=True)
    if found.probes:
        cases = load_probes(found.probes.path)
        console.print(f"probes    {len(cases)} cases of {found.probes.path}", highlight=False)
    request, _ = run.request(
        LOAD_ROWS, {"train": found.train, "test": found.test, "databases": found.databases}
    )
    rows = run_stage(LOAD_ROWS, request)
    request, _ = run.request(SPLIT_ROWS, {"rows": rows})
    split = run_stage(SPLIT_ROWS, request)
    request, _ = run.request(FORMAT_CHAT, {"rows": rows, "split": split, "base": base})
    return run_stage(FORMAT_CHAT, request), base.folder


def _counts(chat: ChatRef) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("rows", f"train {chat.train}, validation {chat.validation}, test {chat.test}")
    share = chat.answer_tokens / chat.train_tokens
    table.add_row("tokens", f"{chat.train_tokens} in training, {share:.1%} of them carry loss")
    table.add_row("longest", f"{chat.longest_tokens} tokens")
    return table


def _show_rows(console: Console, chat: ChatRef, base_folder: Path, show: int) -> None:
    from retune.data.tokenizers import load_tokenizer

    side: Side = "train"
    tokenizer = load_tokenizer(base_folder)
    for row in read_rows(chat.side(side).folder / "rows.parquet")[:show]:
        text = Text(tokenizer.decode(row["prompt_ids"]), style="dim")
        text.append(tokenizer.decode(row["answer_ids"]), style="bold green")
        console.rule(f"row {row['row_id']}: loss falls on the green tokens", align="left")
        console.print(text, soft_wrap=True)
