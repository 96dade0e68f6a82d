"""The bench: which comparisons are run, what ratios are taken of them, and what is kept."""

from __future__ import annotations

import ast
import getpass
import json
import os
import platform
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench import commands
from benchmarks.bench.__main__ import choose, main
from benchmarks.bench.catalogue import COMPARISONS
from benchmarks.bench.comparisons import (
    Aim,
    Comparison,
    Disagreement,
    Side,
    as_low_a_loss,
    over_rounds,
    same_answers,
    same_losses,
    same_weights,
)
from benchmarks.bench.hardware import describe_hardware, describe_versions, name_hardware
from benchmarks.bench.processes import Work, measure, profile
from benchmarks.bench.results import keep, write_table
from benchmarks.warm_run import Place
from tests.tiny_models import REPOSITORY


def taken(cpu: float, wall: float = 1.0, found: Any = None) -> dict[str, Any]:
    """Figures of one side in one round."""
    return {"cpu": cpu, "wall": wall, "peak": 2e6, "found": found}


PAIR = Comparison(
    "pair",
    "slow / quick",
    (Side("slow", "none:none", {"rows": 3}), Side("quick", "none:none")),
    (Aim("faster", "cpu", 3.0), Aim("above", "wall", 2.0)),
)
ROUNDS = [[taken(6.0, 1.0), taken(2.0, 4.0)], [taken(8.0, 1.0), taken(2.0, 2.0)]]
ROUNDS += [[taken(5.0, 1.0), taken(2.0, 2.5)]]


def test_a_pattern_chooses_all_that_it_matches_in_the_catalogues_order() -> None:
    """Asked for in another order, each once."""
    names = [each.name for each in choose(["perplexity*", "generation", "perplexity"])]
    assert names == ["generation", "perplexity", "perplexity-answers"]


def test_without_names_all_are_chosen() -> None:
    """`make bench` names none."""
    assert choose([]) == list(COMPARISONS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mege"], "no comparison is called mege; there are: training,"),
        (["--pairs", "0"], "--pairs is 0; expected at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured: exit code 2 and what was expected."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_ratios_are_taken_round_by_round() -> None:
    """6/2, 8/2 and 5/2: the median is 3, between 2.5 and 4; not that of the sides' medians."""
    aim = PAIR.aims[0]
    assert over_rounds([aim.read(each) for each in ROUNDS]) == (3.0, 2.5, 4.0)


@pytest.mark.parametrize(
    ("aim", "figure", "met"),
    [
        (Aim("faster", "cpu", 3.0), 3.0, True),
        (Aim("faster", "cpu", 3.1), 3.0, False),
        (Aim("growth", "cpu", 0.4, of=1), 1 / 3, True),
        (Aim("growth", "cpu", 0.3, of=1), 1 / 3, False),
        (Aim("above", "wall", 2.0), 3.0, False),
        (Aim("own", "wall", 4.0), 4.0, True),
        (Aim("beyond", "wall", 2.5), 2.5, True),
    ],
)
def test_an_aim_is_met_or_missed(aim: Aim, figure: float, met: bool) -> None:
    """6 s and 2 s of CPU, 1 s and 4 s of the clock, of which the last side tells 1.5 s."""
    assert aim.read([taken(6.0, 1.0), taken(2.0, 4.0, found=1.5)]) == pytest.approx(figure)
    assert aim.is_met(figure) is met


def test_sides_that_do_not_do_the_same_are_no_comparison() -> None:
    """One answer, the losses by 2e-6 or one by 2e-5, one weight, and a model that learned less."""
    with pytest.raises(Disagreement, match=r"1 of 2 answers differ; that of row 1 is \[2\] and"):
        same_answers([[[1], [2]], [[1], [3]]])
    with pytest.raises(Disagreement, match=r"differ by 2\.0e-06 in sum and up to 3\.0"):
        same_losses([[10.0, 5.0], [10.00003, 5.0]])
    with pytest.raises(Disagreement, match=r"up to 2\.0e-05 in a row"):
        same_losses([[10.0, 5.0], [9.9999, 5.0001]])
    with pytest.raises(Disagreement, match="1 weights differ, the first: b"):
        same_weights([{"a": "1", "b": "2"}, {"a": "1"}])
    with pytest.raises(Disagreement, match="at most 2 % over"):
        as_low_a_loss([0.50, 0.52])


def test_sides_that_do_the_same_say_how_far() -> None:
    """Losses of 5 and 5 + 5e-7 are 1e-7 apart."""
    assert same_answers([[[1], [2]]] * 2) == "2 answers equal"
    assert same_losses([[5.0], [5.0000005]]) == "losses equal to 1e-07"
    assert same_weights([{"a": "1"}] * 2) == "1 weights equal bit for bit"
    assert as_low_a_loss([0.5, 0.505]) == "held-out loss 0.500 / 0.505"


def test_what_is_measured_leaves_out_what_is_told_afterwards() -> None:
    """The work runs once, and its result goes to what tells of it."""
    calls: list[str] = []

    def work() -> int:
        calls.append("work")
        return 6

    def tell(result: int) -> int:
        calls.append("tell")
        return result + 1

    found = measure((work, tell))
    assert found["found"] == 7
    assert calls == ["work", "tell"]
    assert found["cpu"] >= 0 and found["wall"] > 0


def test_a_profile_names_the_functions_that_took_the_time() -> None:
    """Of the work, not of what is told of it."""

    def add_up_many() -> int:
        return sum(at * at for at in range(1000))

    def tell_of_it(result: int) -> int:
        return result

    found = profile((add_up_many, tell_of_it))["profile"]
    assert "(add_up_many)" in found and "tell_of_it" not in found


@pytest.mark.parametrize(
    "prepare", [commands.start_server, lambda folder: commands.command(folder, "plan")]
)
def test_a_command_is_warmed_up_before_it_is_measured(
    prepare: Callable[[Path], Work], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once while it is prepared, with the same words, and once for each time it is measured."""
    run: list[Sequence[str]] = []
    monkeypatch.setattr(Place, "execute", lambda _, words, *more: run.append(words))
    do, _ = prepare(tmp_path)
    assert len(run) == 1
    do()
    assert len(run) == 2 and run[0] == run[1]


def test_figures_are_kept_by_hardware_and_stand_in_the_table(tmp_path: Path) -> None:
    """A second comparison joins the first in one file; no aim of a missing one is shown.

    CPU ratios 3, 4 and 2.5 meet an aim of 3 by their median; wall differences 3, 1 and 1.5 s stay
    below 2 s by theirs.
    """
    other = Comparison("other", "alone", (Side("alone", "none:none"),), (Aim("own", "cpu", 1.0),))
    keep(tmp_path, other, [[taken(2.0)]], "")
    path = keep(tmp_path, PAIR, ROUNDS, "3 answers equal")
    assert [path] == list(tmp_path.glob("*.json"))
    kept = json.loads(path.read_text("utf-8"))
    table = write_table(kept, [PAIR, other, COMPARISONS[0]])
    first = (
        "| `pair`: slow / quick | CPU | at least 3.00x | 3.00x (2.50x to 4.00x) | 6.00 s / 2.00 s"
    )
    assert f"{first} | yes |" in table
    assert "|  | wall | at most 2.00 s more | 1.50 s (1.00 s to 3.00 s) |" in table
    assert (
        "| `other`: alone | CPU | at most 1.00 s | 2.00 s (2.00 s to 2.00 s) | 2.00 s | **no** |"
        in table
    )
    assert "3 rounds on " in table and "; 3 answers equal" in table
    assert "`training`" not in table


def test_what_is_kept_names_no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor, cores, memory and versions; no host, user or folder."""
    host, user = "host-of-nobody", "user-of-nobody"
    names = (os.uname()[0], host, *os.uname()[2:])
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(names))
    monkeypatch.setattr(platform, "uname", lambda: platform.uname_result(*names))
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, user)
    monkeypatch.setenv("HOME", f"/home/{user}")
    assert (platform.node(), getpass.getuser(), Path.home().name) == (host, user, user)
    text = keep(tmp_path, PAIR, ROUNDS, "").read_text("utf-8")
    assert not [each for each in (host, user, str(tmp_path)) if each in text]
    assert describe_hardware().keys() == {"cpu", "cores", "memory_gib"}
    assert describe_versions()["torch"].startswith("2.")
    assert name_hardware({"cpu": "AMD EPYC 7543 (TM)", "cores": 2}) == "amd-epyc-7543-tm-2-cores"


@pytest.mark.parametrize("does", sorted({side.does for each in COMPARISONS for side in each.sides}))
def test_every_side_of_the_catalogue_is_a_function_that_takes_its_options(does: str) -> None:
    """A benchmark runs seldom; a renamed function or option would be found then only."""
    module, _, function = does.partition(":")
    tree = ast.parse((REPOSITORY / "benchmarks" / "bench" / f"{module}.py").read_text("utf-8"))
    [found] = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    taken_by_it = {each.arg for each in found.args.args}
    given = {
        name
        for each in COMPARISONS
        for side in each.sides
        if side.does == does
        for name in side.options
    }
    assert given | {"folder"} <= taken_by_it
    assert found.args.args[0].arg == "folder"
