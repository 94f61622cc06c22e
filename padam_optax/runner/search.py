"""Searches beyond a grid: Optuna chooses the configurations and gives up those that fall behind."""

import math
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from padam_optax.experiments.spec import Experiment
from padam_optax.paths import expanded
from padam_optax.records.record import Record
from padam_optax.records.store import RunDirectory
from padam_optax.runner.search_space import Range, check_values, rounded, trial_of
from padam_optax.runner.sweep import Sweeper

if TYPE_CHECKING:
    import optuna

Space = Mapping[str, Range | Sequence[float]]


def search(
    experiment: Experiment,
    space: Space,
    trials: int,
    seeds: Sequence[int],
    sweeper: Sweeper,
    out: str | pathlib.Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """Lets Optuna choose configurations until there are `trials` trials, each trained with every seed.

    Sampler (TPE, seeded by the number of trials) and pruner (median) are Optuna's defaults. The study is in
    `<out>/<name>.sqlite3`: a later call goes on from its trials, whether to finish a search or to add trials.

    Args:
      experiment: What to train.
      space: Range or values to choose from, by hyper-parameter.
      trials: Number of trials, those of earlier calls included.
      seeds: Each trial has one run with each seed; the search minimises the mean of `sweeper.metric` over them.
      sweeper: Trains and records.
      out: Folder of the study.
      should_stop: Called between trials; the search stops once it returns True.

    Returns:
      The records of all trials.

    Raises:
      ValueError: If the space is empty, a value is out of its bounds, `trials` is below 1, or Optuna is not installed.
      StoreError: If another process searches or sweeps the experiment in the same folder.
    """
    if not space:
        raise ValueError("The space is empty: give a range or values for one hyper-parameter or more.")
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}.")
    for name, given in space.items():
        check_values(experiment, name, (given.low, given.high) if isinstance(given, Range) else given)
    try:
        import optuna
    except ImportError:
        raise ValueError('A search needs Optuna: pip install "padam_optax[search]".') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = expanded(out)
    folder.mkdir(parents=True, exist_ok=True)
    with sweeper.alone():
        study = optuna.create_study(
            storage=_storage(folder / f"{experiment.name}.sqlite3"),
            study_name=experiment.name,
            direction="minimize",
            load_if_exists=True,
        )
        # With the same seed again, the sampler would choose the same values again.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
        ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        while len(study.get_trials(deepcopy=False, states=ended)) < trials and not should_stop():
            _try_one(study, space, seeds, sweeper)
    records: list[Record] = []
    for trial in study.get_trials(deepcopy=False, states=ended):
        name = trial_of(experiment, {name: rounded(trial.params[name]) for name in space}).name
        found = (RunDirectory(out, name, seed).read() for seed in seeds)
        records += [record for record in found if record is not None]
    return records


def _storage(path: pathlib.Path) -> str:
    """The URL of a SQLite file, whatever characters its path has."""
    import sqlalchemy

    return sqlalchemy.URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def _try_one(study: "optuna.Study", space: Space, seeds: Sequence[int], sweeper: Sweeper) -> None:
    from optuna.trial import TrialState

    trial = study.ask()
    chosen = {
        name: rounded(
            trial.suggest_float(name, given.low, given.high, log=given.log)
            if isinstance(given, Range)
            else trial.suggest_categorical(name, list(given))
        )
        for name, given in space.items()
    }

    def give_up(epoch: int, score: float) -> bool:
        # A diverged seed ends its configuration: a pruner does not take infinity.
        if not math.isfinite(score):
            return True
        trial.report(score, epoch)
        return trial.should_prune()

    records = sweeper.train([chosen], seeds, give_up=give_up)
    if len(records) < len(seeds) or not all(record.finished for record in records):
        study.tell(trial, state=TrialState.FAIL)
    elif any(record.given_up or record.diverged for record in records):
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, statistics.fmean(record.metrics[-1][sweeper.metric] for record in records))
