"""Chooses learning rates, and p for Padam, of a mini suite on a held-out fifth of its training images.

    python benchmarks/reproduction/tune_mini.py --data-dir DIR --data-label cifar10-jpeg [--optimizers sgdm,adam]

Each method gets half the epochs, one seed and five rates half a decade apart around the paper's, extended by one more
rate for as long as the best is at an edge; Padam gets that for each p of the paper's section 5. Everything else is as
in the paper. Records go to `cifar10-mini-tuning` beside this file, one a configuration; what is there is not run again.
The choice (lowest final held-out error, then lowest loss) is printed; `experiments/cifar.py` holds it, and a test
compares the two. About 25 minutes for Padam and as long for the six others, on one core each.
"""

import argparse
import dataclasses
import pathlib

from padam_optax.experiments import EXPERIMENTS
from padam_optax.experiments.cifar import PAPER_SETTINGS
from padam_optax.experiments.datasets import load_data
from padam_optax.experiments.records import Record
from padam_optax.experiments.run import run
from padam_optax.experiments.spec import OPTIMIZERS, Experiment

HERE = pathlib.Path(__file__).parent
SUITE = "cifar10-mini"
SEED = 0
# Section 5: "we choose the partial adaptive parameter p from ...".
PS = (1 / 16, 1 / 8, 1 / 5, 1 / 4, 2 / 5)
# In half decades: 10^(k/2). Section 5 searches 1e-4 to 1e2.
LOWEST, HIGHEST = -8, 4
# Where the search starts; the paper's rates, lower for the larger p, which want smaller ones (section 3).
CENTRES = {"sgdm": -2, 1 / 16: -2, 1 / 8: -2, 1 / 5: -3, 1 / 4: -3, 2 / 5: -4}
PAPER_CENTRE = -6


def rate(half_decades: int) -> float:
    """10^(k/2), to four digits."""
    return float(f"{10 ** (half_decades / 2):.4g}")


def variant(optimizer: str, learning_rate: float, p: float | None) -> Experiment:
    """The experiment of one trial."""
    base = EXPERIMENTS[f"{SUITE}-{optimizer}"]
    chosen = {"learning_rate": learning_rate} | ({} if p is None else {"p": p})
    label = ",".join(f"{name}={value:g}" for name, value in chosen.items())
    return dataclasses.replace(
        base.with_epochs(base.epochs // 2),
        name=f"{base.name}@{label}",
        hyperparameters={**PAPER_SETTINGS[optimizer], **chosen},
        held_out=0.2,
        seeds=(SEED,),
    )


def score(record: Record) -> tuple[float, float]:
    """Final held-out error and loss; a diverged run is worse than any other."""
    if record.diverged:
        return (1.0, float("inf"))
    return (record.metrics[-1]["test_error"], record.metrics[-1]["test_loss"])


def search(optimizer: str, p: float | None, trial) -> dict[int, Record]:
    """Runs five rates, then more while the best is at an edge."""
    centre = CENTRES.get(optimizer if p is None else p, PAPER_CENTRE)
    done = {k: trial(variant(optimizer, rate(k), p)) for k in range(centre - 2, centre + 3)}
    while True:
        best = min(done, key=lambda k: score(done[k]))
        step = {min(done): -1, max(done): 1}.get(best, 0)
        if step == 0 or not LOWEST <= best + step <= HIGHEST:
            return done
        done[best + step] = trial(variant(optimizer, rate(best + step), p))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--data-label", required=True)
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS), help="names, separated by commas")
    parser.add_argument("--out", default=HERE / f"{SUITE}-tuning", type=pathlib.Path)
    arguments = parser.parse_args()

    def trial(experiment: Experiment) -> Record:
        data = load_data(experiment, arguments.data_dir, arguments.data_label)
        record = run(experiment, SEED, data, arguments.out, checkpoint_every=0)
        print(experiment.name, "held-out error, loss:", *score(record), flush=True)
        return record

    for optimizer in arguments.optimizers.split(","):
        records = [
            record for p in (PS if optimizer == "padam" else (None,)) for record in search(optimizer, p, trial).values()
        ]
        best = min(records, key=score)
        print("chosen:", best.config["experiment"]["name"], *score(best), flush=True)


if __name__ == "__main__":
    main()
