"""A search by Optuna: which point to try next, and what it has learned, kept below the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retune.errors import ConfigError
from retune.inputs import Inputs
from retune.recipe.recipe import Recipe
from retune.scoring.figures import figure_that_decides
from retune.trials.choosing import choosing_gate
from retune.trials.space import Axis, Choice, name_point, write_number
from retune.trials.trials import LoadedTrial, Trial, identify_trials

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Search = Literal["random", "tpe"]

_POINT = "point"
_MOST_RANDOM = 10
"""TPE draws its first points at random; Optuna's own number, less for a short search."""


MOST_TRIALS = 1000
"""More are taken for a typing slip."""


def check_search(search: Search | None, trials: int | None) -> int:
    """Return how many points a search draws; 0 without one.

    Args:
        search: How, or None.
        trials: As the user said.

    Raises:
        ConfigError: A search without a number, a number without a search, or none that is useful.
    """
    if search is None:
        if trials is not None:
            raise ConfigError("--trials is for a search: add --search random or tpe")
        return 0
    if trials is None:
        raise ConfigError(f"--search {search} draws as many points as asked: add --trials 20")
    if not 2 <= trials <= MOST_TRIALS:
        raise ConfigError(f"--trials {trials}: expected 2 to {MOST_TRIALS}")
    return trials


def identify_sweep(
    trials: Sequence[LoadedTrial], search: Search | None, axes: Sequence[Axis]
) -> list[Any]:
    """Return what tells one sweep from another.

    Args:
        trials: Its trials, or some that show whether its search can start.
        search: How points are drawn.
        axes: What is varied: a logarithmic range has the ends of a plain one, and other draws.
    """
    return [identify_trials(trials), search, [axis.model_dump() for axis in axes]]


def expect_metric(recipe: Recipe, inputs: Inputs) -> str:
    """Name the figure that trials will be chosen by, before anything is scored.

    Args:
        recipe: The recipe.
        inputs: What it names.
    """
    has = {None: True, "text_to_sql": inputs.asks_sql, "text_label": inputs.has_labels}
    decides = figure_that_decides(lambda each: has.get(each.rows, False))
    return choosing_gate(recipe.gate).metric or decides


class TrialStudy:
    """Asks Optuna for points and tells it what came of them.

    Killed and opened again, it goes on: finished points are told, the point that was being tried
    is given again, and the draws that follow are those of an undisturbed search.

    Args:
        database: SQLite file; made when missing.
        name: Tells studies in it apart.
        axes: What is drawn.
        search: How.
        trials: Points of the whole search, earlier runs included.
        higher_is_better: Direction of what is told.
        seed: Of the draws.
    """

    def __init__(
        self,
        database: Path,
        name: str,
        *,
        axes: Sequence[Axis],
        search: Search,
        trials: int,
        higher_is_better: bool,
        seed: int,
    ) -> None:
        self._axes, self._search, self._trials, self._seed = axes, search, trials, seed
        self._study = _open_study(database, name, higher_is_better)
        self._given: set[int] = set()

    def next_points(self, overrides: Sequence[str], at_once: int) -> list[tuple[int, Trial]]:
        """Return the next points to try, with their numbers; none when the search is over.

        Args:
            overrides: Settings that all trials share.
            at_once: How many can be tried at the same time.
        """
        found: list[tuple[int, Trial]] = []
        for number, point in self._points():
            found.append((number, self._named(number, point, overrides)))
            if len(found) == at_once:
                break
        return found

    def tell(self, number: int, value: float | None, state: str) -> None:
        """Say what came of a point.

        Args:
            number: Its number.
            value: The figure that decides; None where there is none.
            state: finished, stopped or failed.
        """
        from optuna.trial import TrialState

        states = {"stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
        if state == "finished" and value is not None:
            self._study.tell(number, value, skip_if_finished=True)
        else:
            ended = states.get(state, TrialState.FAIL)
            self._study.tell(number, state=ended, skip_if_finished=True)

    def _points(self) -> Iterator[tuple[int, list[str]]]:
        # Points of an earlier run come again in their order: those that finished are found in the
        # store within seconds, so that the table has all of them.
        for trial in self._study.get_trials(deepcopy=False):
            if trial.number not in self._given and (point := trial.user_attrs.get(_POINT)):
                self._given.add(trial.number)
                yield trial.number, point
        while len(self._study.trials) < self._trials:
            yield self._ask()

    def _ask(self) -> tuple[int, list[str]]:
        # A sampler's random state is not in the storage. One seed per point gives the same draws
        # whether or not the search was interrupted.
        number = len(self._study.trials)
        self._study.sampler = _make_sampler(self._search, self._seed + number, self._trials)
        trial = self._study.ask()
        point = []
        for axis in self._axes:
            if isinstance(axis, Choice):
                point.append(str(trial.suggest_categorical(axis.path, axis.values)))
            elif axis.whole:
                low, high = int(axis.low), int(axis.high)
                point.append(str(trial.suggest_int(axis.path, low, high, log=axis.log)))
            else:
                value = trial.suggest_float(axis.path, axis.low, axis.high, log=axis.log)
                point.append(write_number(axis, value))
        trial.set_user_attr(_POINT, point)
        self._given.add(trial.number)
        return trial.number, point

    def _named(self, number: int, point: Sequence[str], overrides: Sequence[str]) -> Trial:
        trial = name_point(self._axes, point, overrides)
        return trial.model_copy(update={"name": f"{number + 1}: {trial.name}"})

    @property
    def ended(self) -> list[FrozenTrial]:
        """Return what Optuna knows of the points that ended."""
        return [trial for trial in self._study.trials if trial.state.is_finished()]


def _open_study(database: Path, name: str, higher_is_better: bool) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=f"sqlite:///{database}",
        study_name=name,
        direction="maximize" if higher_is_better else "minimize",
        load_if_exists=True,
    )


def _make_sampler(search: Search, seed: int, trials: int) -> BaseSampler:
    import optuna

    if search == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    at_random = min(_MOST_RANDOM, max(2, trials // 3))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=at_random)
