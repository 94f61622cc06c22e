"""Records how effective learning rates fall through the decays, for several p on a mini recipe, and draws it.

    python benchmarks/studies/effective_rates.py cifar10-mini --data-dir DIR --data-label cifar10-jpeg [--picture PNG]
    python benchmarks/studies/effective_rates.py ptb-mini --data-dir DIR [--picture PNG]

It runs each p at its own best rate (`runner.effective_rates`) with seed 0, and skips runs that are recorded. After each
epoch a line records the quantiles of the rates and the median of sqrt(v_hat) + eps, over all coordinates
(`median_root`) and over the group whose p `experiments.beyond` changes (`group_median_root`). It takes 12 minutes on
one core for the images, 9 for the text.
"""

import argparse
import pathlib
from typing import Any

import jax

from padam_optax import diagnostics
from padam_optax.experiments import find
from padam_optax.experiments.beyond import GROUPS
from padam_optax.experiments.spec import Experiment
from padam_optax.report.effective_rates import effective_rate_curves
from padam_optax.runner.datasets import load_data
from padam_optax.runner.effective_rates import MINI_RATES, PTB_MINI_RATES, observer
from padam_optax.runner.run import run
from padam_optax.runner.search_space import trial_of
from padam_optax.training.loop import TrainState

RATES = {"cifar10-mini": MINI_RATES, "ptb-mini": PTB_MINI_RATES}


def observed(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    group = {
        jax.tree_util.keystr(path)
        for path, inside in jax.tree_util.tree_leaves_with_path(GROUPS[experiment.suite](state.params))
        if inside
    }
    return {
        **observer(experiment)(state),
        "median_root": float(diagnostics.median_root(state.opt_state)),
        "group_median_root": float(diagnostics.median_root(state.opt_state, group.__contains__)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=RATES)
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--data-label")
    parser.add_argument("--out", type=pathlib.Path, default="runs/effective-rates", help="folder of the records")
    parser.add_argument("--picture", type=pathlib.Path, help="draw the rates as a PNG")
    parser.add_argument("--p", type=float, nargs="*", help="only these")
    arguments = parser.parse_args()

    experiment = find(f"{arguments.suite}-padam")
    data = load_data(experiment, arguments.data_dir, arguments.data_label or "")
    records = []
    for p, learning_rate in RATES[arguments.suite].items():
        if arguments.p and p not in arguments.p:
            continue
        own = trial_of(experiment, {"p": p, "learning_rate": learning_rate})
        record = run(
            own,
            0,
            data,
            arguments.out,
            checkpoint_every=0,
            observe=lambda state, own=own: observed(own, state),
            on_epoch=lambda line: print(line, flush=True),
        )
        records.append(record)
    if arguments.picture is not None:
        effective_rate_curves(records, arguments.picture)


if __name__ == "__main__":
    main()
