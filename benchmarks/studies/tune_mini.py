"""Chooses learning rates, and p for Padam, of a mini suite on data held out from training.

    python benchmarks/studies/tune_mini.py cifar10-mini --data-dir DIR --data-label cifar10-jpeg
    python benchmarks/studies/tune_mini.py ptb-mini --data-dir DIR [--optimizers sgdm,adam]
    python benchmarks/studies/tune_mini.py digits-mini

Each method gets half the epochs, one seed and rates half a decade apart around the paper's (images: five; text: three),
extended by one more rate for as long as the best is at an edge; Padam gets that for each p of the paper's section 5.
Everything else is as in the paper. Images are chosen by the last fifth of the training images, text by the validation
text. Records go to `runs/<suite>-tuning`, one a configuration; what is there is not run again, so that `padam unpack
benchmarks/records/suites/<suite>-tuning.jsonl` gives what was recorded before. The choice (lowest final held-out error,
then lowest loss; lowest perplexity) is printed; `experiments/cifar.py`, `ptb.py` and `digits.py` hold it, and a test
compares the two. On one core, about 50 minutes for CIFAR-10, 70 for the text and 5 for the digits.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping

from padam_optax.experiments import EXPERIMENTS, ptb
from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.spec import Experiment
from padam_optax.records.record import Record
from padam_optax.runner.datasets import load_data
from padam_optax.runner.run import run
from padam_optax.runner.search_space import trial_of

SEED = 0
# Section 5: "we choose the partial adaptive parameter p from ...".
PS = (1 / 16, 1 / 8, 1 / 5, 1 / 4, 2 / 5)
# In half decades: 10^(k/2). Section 5 searches 1e-4 to 1e2.
LOWEST, HIGHEST = -8, 4


@dataclasses.dataclass(frozen=True)
class Search:
    """How a suite is searched.

    Attributes:
      settings: The paper's, by optimizer.
      centres: Where the search starts, in half decades, by optimizer or p; near the paper's rates, lower for the larger
        p, which want smaller ones (section 3).
      width: Rates on each side of the centre.
      held_out: Share of the training images to choose by; None where the data have a validation text.
      metrics: What the last line of a record is judged by, in this order.
    """

    settings: Mapping[str, Mapping[str, float]]
    centres: Mapping[str | float, int]
    width: int
    held_out: float | None
    metrics: tuple[str, ...]


_IMAGE_SETTINGS = {name: METHODS[name].settings for name in PAPER_METHODS}
_ADAPTIVE = ("adam", "amsgrad", "adamw", "yogi", "adabound")
SEARCHES = {
    "cifar10-mini": Search(
        settings=_IMAGE_SETTINGS,
        centres={"sgdm": -2, **dict.fromkeys(_ADAPTIVE, -6), 1 / 16: -2, 1 / 8: -2, 1 / 5: -3, 1 / 4: -3, 2 / 5: -4},
        width=2,
        held_out=0.2,
        metrics=("test_error", "test_loss"),
    ),
    "digits-mini": Search(
        settings=_IMAGE_SETTINGS,
        centres={"sgdm": -2, **dict.fromkeys(_ADAPTIVE, -5), 1 / 16: -1, 1 / 8: -1, 1 / 5: -2, 1 / 4: -2, 2 / 5: -3},
        width=2,
        held_out=0.2,
        metrics=("test_error", "test_loss"),
    ),
    "ptb-mini": Search(
        settings=ptb.PAPER_SETTINGS[2],
        centres={
            "sgdm": 0,
            **dict.fromkeys(_ADAPTIVE, -5),
            "yogi": -4,
            1 / 16: 1,
            1 / 8: 0,
            1 / 5: -1,
            1 / 4: -2,
            2 / 5: -4,
        },
        width=1,
        held_out=None,
        metrics=("valid_perplexity",),
    ),
}


def rate(half_decades: int) -> float:
    """10^(k/2), to four digits."""
    return float(f"{10 ** (half_decades / 2):.4g}")


def variant(suite: str, optimizer: str, learning_rate: float, p: float | None) -> Experiment:
    """The experiment of one trial."""
    base, found = EXPERIMENTS[f"{suite}-{optimizer}"], SEARCHES[suite]
    shorter = dataclasses.replace(
        base.with_epochs(base.epochs // 2), hyperparameters=found.settings[optimizer], seeds=(SEED,)
    )
    if found.held_out is not None:
        shorter = shorter.with_task(held_out=found.held_out)
    return trial_of(shorter, {"learning_rate": learning_rate} | ({} if p is None else {"p": p}))


def score(suite: str, record: Record) -> tuple[float, ...]:
    """Final metrics on what was held out; a diverged run is worse than any other."""
    metrics = SEARCHES[suite].metrics
    return tuple(float("inf") if record.diverged else record.metrics[-1][name] for name in metrics)


def search(suite: str, optimizer: str, p: float | None, trial) -> dict[int, Record]:
    """Runs the rates around the centre, then more while the best is at an edge."""
    centre, width = SEARCHES[suite].centres[optimizer if p is None else p], SEARCHES[suite].width
    done = {k: trial(variant(suite, optimizer, rate(k), p)) for k in range(centre - width, centre + width + 1)}
    while True:
        best = min(done, key=lambda k: score(suite, done[k]))
        step = {min(done): -1, max(done): 1}.get(best, 0)
        if step == 0 or not LOWEST <= best + step <= HIGHEST:
            return done
        done[best + step] = trial(variant(suite, optimizer, rate(best + step), p))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SEARCHES)
    parser.add_argument("--data-dir")
    parser.add_argument("--data-label", default="")
    parser.add_argument("--optimizers", default=",".join(PAPER_METHODS), help="names, separated by commas")
    parser.add_argument("--p", type=float, nargs="*", default=PS, help="of Padam")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the records")
    arguments = parser.parse_args()
    suite = arguments.suite
    out = arguments.out or pathlib.Path("runs") / f"{suite}-tuning"

    def trial(experiment: Experiment) -> Record:
        data = load_data(experiment, arguments.data_dir, arguments.data_label)
        record = run(experiment, SEED, data, out, checkpoint_every=0)
        print(experiment.name, *SEARCHES[suite].metrics, *score(suite, record), flush=True)
        return record

    for optimizer in arguments.optimizers.split(","):
        records = [
            record
            for p in (arguments.p if optimizer == "padam" else (None,))
            for record in search(suite, optimizer, p, trial).values()
        ]
        best = min(records, key=lambda record: score(suite, record))
        print("chosen:", best.experiment.name, *score(suite, best), flush=True)


if __name__ == "__main__":
    main()
