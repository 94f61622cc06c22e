"""The paper's experiments and our smaller ones, by name."""

import difflib

from padam_optax.experiments import cifar, demo, imagenet
from padam_optax.experiments.spec import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    spec.name: spec for spec in (*cifar.EXPERIMENTS, *imagenet.EXPERIMENTS, *demo.EXPERIMENTS)
}


def find(name: str) -> Experiment:
    """Returns the experiment called `name`.

    Raises:
      KeyError: If there is none; the message suggests the nearest names.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    near = difflib.get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise KeyError(f"There is no experiment called {name!r}.{hint} `padam list` shows all.")
