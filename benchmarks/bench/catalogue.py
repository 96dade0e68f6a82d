"""All comparisons, by name, with the aims that they are held against."""

from __future__ import annotations

from benchmarks.bench.comparisons import (
    Aim,
    Comparison,
    Side,
    as_low_a_loss,
    same_answers,
    same_losses,
    same_weights,
)

_LEARNED, _PADDED, _ASKED, _SCORED, _WEIGHED, _BLOCKS = 160, 32, 96, 256, 64, 4


def _speed(cpu: float | None, wall: float | None = None) -> tuple[Aim, ...]:
    aims = (
        Aim("faster", "cpu", cpu) if cpu is not None else None,
        Aim("faster", "wall", wall) if wall is not None else None,
    )
    return tuple(aim for aim in aims if aim is not None)


def _growing(name: str, what: str, does: str, by: str, sizes: dict[int, int]) -> Comparison:
    """Return the same work at several sizes; ``sizes`` has the option's value by how many times."""
    return Comparison(
        name,
        what,
        tuple(Side(f"{times}x", does, {by: value}) for times, value in sizes.items()),
        tuple(
            Aim("growth", "cpu", float(times), of=at) for at, times in enumerate(sizes) if times > 1
        ),
    )


def _growing_model(name: str, what: str, does: str, rows: int) -> Comparison:
    sides = tuple(Side(f"{times}x", does, {"rows": rows, "times": times}) for times in (1, 4))
    return Comparison(name, what, sides, (Aim("growth", "cpu", 4.0, of=1),))


COMPARISONS = (
    Comparison(
        "training",
        f"{_LEARNED} rows: the guides' settings (4 x 4, padded to the batch) / retune's stage",
        (
            Side("guides", "training:train_as_guides", {"rows": _LEARNED}),
            Side("retune", "training:train_stage", {"rows": _LEARNED}),
        ),
        _speed(3.0, 3.0),
        as_low_a_loss,
    ),
    Comparison(
        "training-padded",
        f"{_PADDED} rows: the same, padded to 512 tokens / retune's stage",
        (
            Side("guides", "training:train_as_guides", {"rows": _PADDED, "pad_to": 512}),
            Side("retune", "training:train_stage", {"rows": _PADDED}),
        ),
        _speed(3.0, 3.0),
        as_low_a_loss,
    ),
    Comparison(
        "training-trl",
        f"{_LEARNED} rows: TRL's own defaults (8 x 2) / retune's stage",
        (
            Side("TRL", "training:train_as_trl", {"rows": _LEARNED}),
            Side("retune", "training:train_stage", {"rows": _LEARNED}),
        ),
        _speed(2.5, 2.5),
        as_low_a_loss,
    ),
    Comparison(
        "training-stage",
        f"{_LEARNED} rows: retune's steps alone / the whole stage (1.00 would add nothing)",
        (
            Side("steps", "training:train_stage", {"rows": _LEARNED, "bare": True}),
            Side("stage", "training:train_stage", {"rows": _LEARNED}),
        ),
        _speed(0.9, 0.9),
    ),
    Comparison(
        "generation",
        f"{_ASKED} answers: one by one with `generate` / retune's batches",
        (
            Side("one by one", "scoring:one_by_one", {"rows": _ASKED}),
            Side("retune", "scoring:answers_in_batches", {"rows": _ASKED}),
        ),
        _speed(5.0, 10.0),
        same_answers,
    ),
    Comparison(
        "perplexity",
        f"{_SCORED} rows, every token: the guides' loop / retune's batches",
        (
            Side("guides", "scoring:row_by_row", {"rows": _SCORED}),
            Side("retune", "scoring:losses_in_batches", {"rows": _SCORED}),
        ),
        _speed(3.0, 3.0),
        same_losses,
    ),
    Comparison(
        "perplexity-answers",
        f"{_SCORED} rows, answers alone: the guides' loop / retune's batches",
        (
            Side("guides", "scoring:row_by_row", {"rows": _SCORED, "answers_only": True}),
            Side("retune", "scoring:losses_in_batches", {"rows": _SCORED, "answers_only": True}),
        ),
        _speed(3.0, 3.0),
        same_losses,
    ),
    Comparison(
        "classes",
        f"{_WEIGHED} rows, four classes each by likelihood: the guides' loop / retune's batches",
        (
            Side("guides", "scoring:class_by_class", {"rows": _WEIGHED}),
            Side("retune", "scoring:classes_in_batches", {"rows": _WEIGHED}),
        ),
        _speed(3.0, 3.0),
        same_losses,
    ),
    Comparison(
        "merge",
        "76M parameters in float32: load and `merge_and_unload` / streamed",
        (
            Side("whole", "merging:merge", {"blocks": _BLOCKS, "streamed": False}),
            Side("streamed", "merging:merge", {"blocks": _BLOCKS, "streamed": True}),
        ),
        (*_speed(1.0, 1.0), Aim("faster", "peak", 1.5)),
        same_weights,
    ),
    Comparison(
        "warm-run",
        "the start of a server and the imports / `retune run` that re-uses everything",
        (
            Side("start", "commands:start_server"),
            Side("run", "commands:command", {"name": "run"}),
        ),
        (Aim("above", "cpu", 3.0), Aim("above", "wall", 3.0)),
    ),
    Comparison(
        "cold-run",
        "`retune run`, cut to two steps, into an empty store, over the seconds of its stages",
        (Side("run", "commands:cold_run"),),
        (Aim("beyond", "wall", 5.0),),
    ),
    Comparison(
        "help",
        "`python -c pass` / `retune --help`",
        (
            Side("python", "commands:python", {"words": ["-c", "pass"]}),
            Side("help", "commands:python", {"words": ["-m", "retune.cli", "--help"]}),
        ),
        (Aim("own", "cpu", 0.3), Aim("own", "wall", 0.3)),
    ),
    Comparison(
        "check",
        "`retune --help` / `retune check` on stored rows",
        (
            Side("help", "commands:python", {"words": ["-m", "retune.cli", "--help"]}),
            Side("check", "commands:command", {"name": "check"}),
        ),
        (Aim("own", "cpu", 6.0), Aim("own", "wall", 6.0)),
    ),
    _growing(
        "growth-training",
        "retune's stage over 1, 4 and 16 times 32 rows",
        "training:train_stage",
        "rows",
        {1: 32, 4: 128, 16: 512},
    ),
    _growing(
        "growth-generation",
        "answers to 1, 4 and 16 times 16 prompts",
        "scoring:answers_in_batches",
        "rows",
        {1: 16, 4: 64, 16: 256},
    ),
    _growing(
        "growth-perplexity",
        "losses of 1, 4 and 16 times 32 rows",
        "scoring:losses_in_batches",
        "rows",
        {1: 32, 4: 128, 16: 512},
    ),
    _growing_model(
        "growth-model-training",
        "retune's stage, 96 rows, 1 and 4 times the base's parameters",
        "training:train_stage",
        96,
    ),
    _growing_model(
        "growth-model-perplexity",
        "losses of 256 rows, 1 and 4 times the base's parameters",
        "scoring:losses_in_batches",
        256,
    ),
)
"""In the order in which they are run."""
