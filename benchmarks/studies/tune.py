"""Chooses the settings of the mini suites on examples held out from training, with equal budgets.

    python benchmarks/studies/tune.py train digits-mini
    python benchmarks/studies/tune.py train cifar10-mini --data-dir DIR --data-label cifar10-png
    python benchmarks/studies/tune.py train ptb-transformer-mini --data-dir DIR [--methods sgdm,adam]
    python benchmarks/studies/tune.py choose runs/digits-mini-tuning

`padam_optax/experiments/tuning.py` lists the trials: 12 for every method, two seeds each, half the epochs. The records
go to `runs/<suite>-tuning`. Recorded trials are not trained again, so a stopped search continues.
`padam unpack benchmarks/records/suites/<suite>-tuning.jsonl` restores the recorded trials. `choose` prints the setting
with the best mean for each method; `experiments/digits.py`, `cifar.py` and `ptb.py` hold these settings, and a test
compares the two. The search takes 3 minutes on one core for the digits and 90 for CIFAR-10.
"""

import argparse
import pathlib

from padam_optax.experiments import EXPERIMENTS, tuning
from padam_optax.experiments.spec import Experiment
from padam_optax.records.store import read_all
from padam_optax.report.budget import best_trial
from padam_optax.report.sweeps import Sweep
from padam_optax.runner.compiled import keep_programs
from padam_optax.runner.datasets import load_data
from padam_optax.runner.sweep import Sweeper


def recipe(suite: str, method: str) -> Experiment:
    """The experiment whose settings are chosen."""
    return next(
        spec
        for spec in EXPERIMENTS.values()
        if (spec.suite, spec.optimizer) == (suite, method) and spec.variant_of is None
    )


def untuned(suite: str, method: str) -> Experiment:
    """The same before any choice."""
    return recipe(tuning.UNTUNED[suite], method)


def train(suite: str, methods: list[str], data_dir: str | None, label: str, out: pathlib.Path) -> None:
    for method in methods:
        spec = tuning.shortened(recipe(suite, method))
        data = load_data(spec, data_dir, label)

        def on_epoch(run: Experiment, seed: int, line: dict) -> None:
            if line["epoch"] == run.epochs or "train_loss" not in line:
                print(run.name, seed, line, flush=True)

        sweeper = Sweeper(spec, data, out, mode="mapped", batch_configs=1, on_epoch=on_epoch)
        sweeper.train(tuning.trials(method, untuned(suite, method).hyperparameters), tuning.SEEDS)


def choose(folder: pathlib.Path) -> None:
    by_experiment: dict[str, list] = {}
    for record in read_all(folder):
        if record.experiment.trial:
            by_experiment.setdefault(record.experiment.variant_of or "", []).append(record)
    for name, records in by_experiment.items():
        spec = records[0].experiment
        best = best_trial(Sweep.of(records, spec.score_metric))
        print(name, "no setting can be chosen" if best is None else (dict(best.chosen), best.mean(spec.score_metric)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the trials of a suite")
    training.add_argument("suite", choices=tuning.UNTUNED)
    training.add_argument("--data-dir")
    training.add_argument("--data-label", default="")
    training.add_argument("--methods", default=",".join(tuning.SPACES), help="names, separated by commas")
    training.add_argument("--out", type=pathlib.Path, help="folder of the records")
    choosing = commands.add_parser("choose", help="print what the trials choose")
    choosing.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.command == "choose":
        choose(arguments.folder)
        return
    keep_programs(None)
    out = arguments.out or pathlib.Path("runs") / f"{arguments.suite}-tuning"
    train(arguments.suite, arguments.methods.split(","), arguments.data_dir, arguments.data_label, out)


if __name__ == "__main__":
    main()
