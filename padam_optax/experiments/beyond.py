"""Further than the paper: what else p can do, on the recipe for text.

Each experiment is the recipe's Padam with `reference_p=1/2` and one thing changed:

    padam run ptb-mini-padam-reference-falling-p --data-dir DIR

- `p-half`, `p-eighth`: p = 1/2 or 1/8 throughout, for comparison.
- `falling-p`: p falls from 1/2 to 1/8, linearly in the updates.
- `group-p`: p = 1/2 for the embedding, 1/8 for the rest.

The learning rate of each was chosen as `RATES` says.
"""

import dataclasses
from collections.abc import Iterator

from padam_optax.experiments import ptb
from padam_optax.experiments.methods import ParameterGroup
from padam_optax.experiments.spec import Experiment

EMBEDDING = ParameterGroup(names=("embedding",))
# Each form had the recipe's rate to choose from and those half a decade (a factor of 3.162) below and above it: the
# lowest validation perplexity at half the epochs, one seed.
RATES: dict[str, float] = {"p-half": 0.0225, "p-eighth": 0.007114, "falling-p": 0.0225, "group-p": 0.007114}


def _variants() -> Iterator[Experiment]:
    base = next(spec for spec in ptb.MINI if spec.optimizer == "padam-reference")
    for name, optimizer, changed in (
        ("p-half", base.optimizer, {"p": 0.5}),
        ("p-eighth", base.optimizer, {"p": 0.125}),
        ("falling-p", "padam-falling", {"p": 0.5, "final_p": 0.125}),
        ("group-p", "padam-by-group", {"p": 0.125, "group_p": 0.5}),
    ):
        yield dataclasses.replace(
            base,
            name=f"{base.name}-{name}",
            optimizer=optimizer,
            hyperparameters={**base.hyperparameters, **changed, "learning_rate": RATES[name]},
            variant_of=base.name,
            seeds=(0, 1, 2),
            group=EMBEDDING if "group_p" in changed else None,
        )


EXPERIMENTS = tuple(_variants())
