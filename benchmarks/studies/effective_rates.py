"""Records how effective learning rates fall through the decays, for several p on the recipe for images, and draws it.

    python benchmarks/studies/effective_rates.py --data-dir DIR --data-label cifar10-png [--picture PNG]

One run for each p at its own best rate (`runner.effective_rates`), seed 0; what is there is not run again. After each
epoch a line holds the quantiles of the rates. 7 minutes on one core.
"""

import argparse
import pathlib

from padam_optax.experiments import find
from padam_optax.report.effective_rates import effective_rate_curves
from padam_optax.runner.datasets import load_data
from padam_optax.runner.effective_rates import MINI_RATES, observer
from padam_optax.runner.run import run
from padam_optax.runner.search_space import trial_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--data-label")
    parser.add_argument("--out", type=pathlib.Path, default="runs/effective-rates", help="folder of the records")
    parser.add_argument("--picture", type=pathlib.Path, help="draw the rates as a PNG")
    arguments = parser.parse_args()

    experiment = find("cifar10-mini-padam")
    data = load_data(experiment, arguments.data_dir, arguments.data_label or "")
    records = []
    for p, learning_rate in MINI_RATES.items():
        own = trial_of(experiment, {"p": p, "learning_rate": learning_rate})
        record = run(
            own,
            0,
            data,
            arguments.out,
            checkpoint_every=0,
            observe=observer(own),
            on_epoch=lambda line: print(line, flush=True),
        )
        records.append(record)
    if arguments.picture is not None:
        effective_rate_curves(records, arguments.picture)


if __name__ == "__main__":
    main()
