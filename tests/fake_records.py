"""Records written by hand, as no run would write them."""

import pathlib
from typing import Any

from padam_optax.experiments.records import RunDirectory

EPOCHS = 3


def write(
    out: pathlib.Path,
    optimizer: str,
    seed: int,
    error: float,
    loss: float,
    *,
    suite: str = "small",
    label: str = "made-up",
    epochs: int = EPOCHS,
    done: int | None = None,
    diverged: bool = False,
    name: str | None = None,
    p: float = 0.125,
    held_out: float | None = None,
    **metrics: Any,
) -> None:
    """A run whose last epoch has this test error and training loss; both were twice as large in the epochs before."""
    name = name or f"{suite}-{optimizer}"
    directory = RunDirectory(out, name, seed)
    config = {
        "experiment": {
            "name": name,
            "optimizer": optimizer,
            "epochs": epochs,
            "hyperparameters": {"p": p} if optimizer == "padam" else {},
            "held_out": held_out,
        },
        "seed": seed,
        "data": {"label": label},
        "device": {"kind": "abacus"},
    }
    directory.start(config, 0)
    done = epochs if done is None else done
    for epoch in range(1, done + 1):
        factor = 1 if epoch == epochs else 2
        line = {"epoch": epoch, "train_loss": factor * loss, "test_error": factor * error, "seconds": 2.0}
        directory.append(line | {name: factor * value for name, value in metrics.items()})
    if diverged:
        directory.append({"epoch": done + 1, "diverged_step": 7 * done})
