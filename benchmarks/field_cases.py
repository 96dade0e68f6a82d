"""Inputs that once failed, tried again: what came of each, beside what should.

    python benchmarks/field_cases.py FOLDER [--only 01 07] [--output table.md]

``FOLDER`` holds a folder of rows per case, the recipe that all share, and the script that makes
the small models that some cases name. Each case is a command as a user would type it, in a process
of its own; its exit code and what it printed are held against what is wanted. Exit code 1 where one
is not as wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NOBODY = 65534
_BUG = re.compile(r"bug of retune|Traceback \(most recent call last\)")


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    said: str
    seconds: float
    store: Path

    def has(self, *patterns: str) -> bool:
        """Say whether all of these patterns stand in the output, however it was wrapped."""
        return all(re.search(each, self.said) for each in patterns)

    def refused(self, *patterns: str) -> bool:
        """Say whether it ended as bad input, with all of these patterns in its message."""
        return self.code in (2, 3) and self.has(*patterns)


@dataclass(frozen=True)
class Case:
    """A command and what is wanted of it.

    Attributes:
        number: Name in the table of cases.
        kind: Letter of its kind of fault.
        wanted: In a sentence.
        holds: Whether an outcome is what is wanted.
        words: The command: `check` or `run`, rows, and further words.
        environment: Variables that are set for it.
        closed: Whether it runs without the right to read what belongs to others.
        script: A Python script of the folder in place of `retune`.
    """

    number: str
    kind: str
    wanted: str
    holds: Callable[[Outcome], bool]
    words: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    closed: bool = False
    script: bool = False


def _set(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def _model(name: str) -> list[str]:
    return _set(f"model.id={{models}}/{name}", "prompt.template=null")


def _ready(outcome: Outcome) -> bool:
    return outcome.code == 0 and outcome.has("Ready")


CASES = (
    Case(
        "01",
        "A",
        "system and history of a row are read, or refused by name",
        lambda it: (
            (_ready(it) and it.has("Você atende a oficina", "aqui é o cliente"))
            or it.refused("system", "history")
        ),
        ["check", "01_history_and_system/rows.jsonl", "--show", "1"],
    ),
    Case(
        "02",
        "A",
        "rows marked as bad are refused or dropped, with their number",
        lambda it: (
            (it.code == 0 and it.has("30") and not it.has("Sei lá, resposta ruim"))
            or it.refused("label")
        ),
        ["check", "02_feedback_label/rows.jsonl", "--show", "1"],
    ),
    Case(
        "03",
        "A",
        "rows with pictures are refused",
        lambda it: it.refused("images"),
        ["check", "03_images/rows.jsonl", "--show", "1"],
    ),
    Case(
        "04",
        "B",
        "with data.labels never plain text: text and class are read",
        lambda it: (
            (_ready(it) and it.has("text_label") and it.has("bom", "ruim"))
            or it.refused("sentiment")
        ),
        [
            *("check", "04_sentiment_column/rows.jsonl"),
            *_set("data.labels=[bom, ruim]"),
            *("--show", "1"),
        ],
    ),
    Case(
        "05",
        "C",
        "no loss on turns with weight 0",
        lambda it: _ready(it) and not it.has(r"\x1b\[[0-9;]*32m[^\x1b]*ERRADO"),
        [
            *("check", "05_message_weight/rows.jsonl"),
            *_set("prompt.loss_on=assistant"),
            *("--show", "1"),
        ],
        {"FORCE_COLOR": "1"},
    ),
    Case(
        "06",
        "J",
        "thoughts inside of an answer are thinking and answer",
        _ready,
        ["check", "06_think_tags/rows.jsonl", *_model("thinking")],
    ),
    Case(
        "07 brackets",
        "D",
        "the trained prompt is the served one",
        lambda it: it.has("same prompt: True", "same ids as the whole chat: True"),
        ["served_prompt.py", "{models}/brackets"],
        script=True,
    ),
    Case(
        "07 thinking",
        "D",
        "the trained prompt is the served one",
        lambda it: it.has("same prompt: True"),
        ["served_prompt.py", "{models}/thinking"],
        script=True,
    ),
    Case(
        "08",
        "H",
        "check refuses tokens without a row in the embedding",
        lambda it: it.refused("embedding"),
        ["check", "plain/rows.jsonl", *_model("added_not_resized")],
    ),
    Case(
        "09",
        "H",
        "check refuses rows over the model's positions",
        lambda it: it.refused("128"),
        [
            *("check", "09_long_rows/rows.jsonl"),
            *_set("model.id={models}/gpt2_short"),
        ],
    ),
    Case(
        "10",
        "H",
        "an adapter on tied ends is refused by the check, and not offered",
        lambda it: it.refused("lm_head"),
        [
            *("check", "plain/rows.jsonl"),
            *_set("method={kind: lora, r: 4, alpha: 8, target_modules: [q_proj, lm_head]}"),
        ],
    ),
    Case(
        "11",
        "I",
        "rounding to the base's own bfloat16 is no fault of a merge",
        lambda it: it.code == 0 and not it.has("wider dtype"),
        ["run", "11_signs/rows.jsonl", *_set("registry.model_name=c11")],
    ),
    Case(
        "12",
        "K",
        "a terminal without UTF-8 changes no exit code",
        lambda it: it.code == 0,
        ["run", "11_signs/rows.jsonl", *_set("registry.model_name=c12")],
        {"PYTHONIOENCODING": "cp1252"},
    ),
    Case(
        "13",
        "L",
        "the own server is never asked through a proxy",
        lambda it: it.code == 0,
        ["run", "plain/rows.jsonl", *_set("registry.model_name=c13")],
        {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
    ),
    Case(
        "14",
        "L",
        "a PREFECT_HOME that cannot be read is named",
        lambda it: it.code in (2, 7) and it.has("PREFECT_HOME"),
        ["run", "plain/rows.jsonl", *_set("registry.model_name=c14")],
        {"PREFECT_HOME": "{closed}"},
        closed=True,
    ),
    Case(
        "16",
        "F",
        "a byte-order mark at the start of a template is no text",
        lambda it: _ready(it) and "\ufeff" not in it.said and not it.has("ufeff"),
        [
            *("check", "plain/rows.jsonl"),
            *_set("prompt.template={cases}/16_template_with_bom/chat.jinja"),
            *("--show", "1"),
        ],
    ),
    Case(
        "17",
        "M",
        "a part's text under `value` is read, or said to be there",
        lambda it: _ready(it) or it.refused("'value'"),
        ["check", "17_parts_with_value/rows.jsonl"],
    ),
    Case(
        "18",
        "M",
        "an array in .jsonl is read, or the way to .json told",
        lambda it: _ready(it) or it.refused(r"\.json\b"),
        ["check", "18_array_in_jsonl/rows.jsonl"],
    ),
    Case(
        "19",
        "M",
        "Python lists in CSV are read, or named as such",
        lambda it: _ready(it) or it.refused("Python"),
        ["check", "19_python_lists_in_csv/rows.csv"],
    ),
    Case(
        "20",
        "M",
        "columns divided by | are read, or named as such",
        lambda it: _ready(it) or it.refused(r"\|"),
        ["check", "20_pipes_in_csv/rows.csv"],
    ),
    Case("21", "M", "a .tsv file is read", _ready, ["check", "21_tsv/rows.tsv"]),
    Case(
        "22",
        "M",
        "tool calls of ShareGPT turns are read, or named as such",
        lambda it: _ready(it) or it.refused("tool"),
        ["check", "22_function_calls/rows.jsonl", "--show", "1"],
    ),
    Case(
        "23",
        "M",
        "true and false are two classes",
        lambda it: _ready(it) or it.refused("data.labels"),
        ["check", "23_true_and_false_labels/rows.jsonl"],
    ),
    Case(
        "24",
        "M",
        "an empty system message is none",
        lambda it: _ready(it) and not it.has("is empty"),
        ["check", "24_empty_system/rows.jsonl"],
    ),
    Case(
        "25",
        "O",
        "a SentencePiece tokenizer without tokenizer.json loads, or what is missing is named",
        lambda it: (_ready(it) or it.refused("sentencepiece")) and not it.has("tiktoken"),
        ["check", "plain/rows.jsonl", *_set("model.id={models}/pieces")],
    ),
    Case(
        "26",
        "N",
        "another trainer's names are translated or refused by meaning",
        lambda it: (
            it.code == 2
            and not it.has("did you mean 'data.databases'")
            and not it.has(r"data\.databases\?")
            and not it.has(r"virtual_tokens\?")
            and not it.has(r"prompt_loss\?")
        ),
        ["check", "{cases}/26_flat_recipe/recipe.yaml"],
    ),
    Case(
        "27",
        "G",
        "the template that is used is named",
        lambda it: it.code == 0 and it.has("headings") and not it.has("the tokenizer's own"),
        ["check", "plain/rows.jsonl", *_model("no_template")],
    ),
    Case(
        "28",
        "M",
        "an adapter folder as model.id says what it is, and of which base",
        lambda it: it.refused("adapter", "base_tiny", "start_from"),
        ["check", "plain/rows.jsonl", *_set("model.id={models}/an_adapter")],
    ),
    Case(
        "30",
        "O",
        "which weight has which shape",
        lambda it: (
            it.code in (2, 5) and it.has(r"192", r"128", "proj") and not it.has("above report")
        ),
        [
            *("run", "plain/rows.jsonl"),
            *_set("model.id={models}/wrong_shape", "registry.model_name=c30"),
        ],
    ),
)


def main() -> int:
    """Run the cases and print the table."""
    options = _read_options()
    work = Path(tempfile.mkdtemp(prefix="field-cases-"))
    work.chmod(0o755)
    try:
        return _run(options, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the cases")
    parser.add_argument("--only", nargs="*", default=(), help="numbers of cases")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    if not (options.folder / "make_models.py").is_file():
        parser.error(f"{options.folder}: no make_models.py there; expected the folder of the cases")
    return options


def _run(options: argparse.Namespace, work: Path) -> int:
    make = [sys.executable, options.folder / "make_models.py", PROJECT, work / "models"]
    subprocess.run(make, check=True, capture_output=True)
    _make_pieces(work / "models")
    (work / "closed").mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    if os.geteuid() == 0:
        os.chown(work / "closed", NOBODY, NOBODY)
    chosen = [case for case in CASES if not options.only or case.number[:2] in options.only]
    lines = [_row("case", "kind", "wanted", "exit code", "seconds", "as wanted"), "|---" * 6 + "|"]
    good = 0
    print("\n".join(lines), flush=True)
    for case in chosen:
        outcome = _try(case, options.folder, work)
        holds = case.holds(outcome) and not _BUG.search(outcome.said)
        good += holds
        seconds = f"{outcome.seconds:.0f}"
        lines.append(_row(case.number, case.kind, case.wanted, outcome.code, seconds, _said(holds)))
        print(lines[-1], flush=True)
        if not holds:
            print(outcome.said[-3000:], file=sys.stderr, flush=True)
    own = [each for each in OWN_CASES if not options.only or each.number in options.only]
    for each in own:
        holds = each.holds(options.folder, work)
        good += holds
        lines.append(_row(each.number, each.kind, each.wanted, "-", "-", _said(holds)))
        print(lines[-1], flush=True)
    total = len(chosen) + len(own)
    print(f"\n{good} of {total} cases as wanted")
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(good != total)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _said(holds: bool) -> str:
    return "yes" if holds else "NO"


def _try(case: Case, folder: Path, work: Path, current: Path | None = None) -> Outcome:
    store = Path(tempfile.mkdtemp(prefix=f"case-{case.number[:2]}-", dir=work))
    places = {"models": work / "models", "cases": folder, "closed": work / "closed"}
    words = [_fill(word, places) for word in case.words]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(store / "prefect"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "COLUMNS": "400",
        **{name: value.format(**places) for name, value in case.environment.items()},
    }
    begun = time.monotonic()
    done = subprocess.run(
        _command(case, words, folder, store),
        env=environment,
        cwd=current or store,
        capture_output=True,
        timeout=900,
        check=False,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    return Outcome(done.returncode, said, time.monotonic() - begun, store)


def _fill(word: str, places: dict[str, Path]) -> str:
    return re.sub(r"\{(models|cases|closed)\}", lambda found: str(places[found[1]]), word)


def _command(case: Case, words: list[str], folder: Path, store: Path) -> list[str]:
    if case.script:
        return [sys.executable, str(folder / words[0]), *words[1:]]
    retune = [sys.executable, "-m", "retune.cli"]
    if case.closed and os.geteuid() == 0:
        # Root reads everything by two rights, which it can go without.
        retune = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *retune]
    command, rows, *more = words
    if rows.endswith(".yaml"):
        return [*retune, command, rows, *more]
    given = _set(
        f"data.train={folder / rows}",
        f"model.id={PROJECT / 'assets/base_tiny'}",
        f"store.folder={store / 'store'}",
    )
    return [*retune, command, str(folder / "recipe.yaml"), *given, *more]


def _make_pieces(models: Path) -> None:
    """Write a snapshot whose tokenizer is a SentencePiece model alone, as of older releases."""
    from sentencepiece import SentencePieceTrainer

    folder = models / "pieces"
    shutil.copytree(models / "no_template", folder)
    for path in folder.glob("*token*"):
        path.unlink()
    rows = (f"o conserto da peça {n} fica por {7 * n} reais em Natal" for n in range(200))
    with (folder / "tokenizer.model").open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=rows, model_writer=file, vocab_size=120, minloglevel=2
        )
    settings = {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _run_in_project(folder: Path, project: Path, current: Path, *words: str) -> str:
    """Run the shared recipe in a project of its own, and return what was printed."""
    (project / "rows").mkdir(parents=True, exist_ok=True)
    (project / ".retune").mkdir(exist_ok=True)
    shutil.copy(folder / "recipe.yaml", project / "recipe.yaml")
    shutil.copy(folder / "plain/rows.jsonl", project / "rows/rows.jsonl")
    current.mkdir(exist_ok=True)
    base = f"model.id={PROJECT / 'assets/base_tiny'}"
    given = _set("data.train=rows/rows.jsonl", base)
    done = subprocess.run(
        [sys.executable, "-m", "retune.cli", "run", str(project / "recipe.yaml"), *given, *words],
        env={**os.environ, "PREFECT_HOME": str(project / "prefect"), "COLUMNS": "400"},
        cwd=current,
        capture_output=True,
        timeout=900,
        check=False,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _one_database(folder: Path, work: Path) -> bool:
    project = work / "project"
    for name in ("first", "second"):
        _run_in_project(folder, project, work / name, *_set("tracking.uri=sqlite:///one.db"))
    return [found.parent for found in work.rglob("one.db")] == [project]


def _can_be_pasted(folder: Path, work: Path) -> bool:
    project = work / "with blank"
    said = _run_in_project(folder, project, work / "third")
    lines = [line for line in said.splitlines() if "with blank" in line and " ui" in line]
    words = [shlex.split(line) for line in lines]
    return bool(lines) and all(any("with blank/" in word for word in each) for each in words)


@dataclass(frozen=True)
class OwnCase:
    """A case that needs folders of its own; the fields are those of `Case`."""

    number: str
    kind: str
    wanted: str
    holds: Callable[[Path, Path], bool]


OWN_CASES = (
    OwnCase("15", "E", "one database, wherever the command is called from", _one_database),
    OwnCase("29", "G", "printed commands can be pasted", _can_be_pasted),
)


if __name__ == "__main__":
    sys.exit(main())
