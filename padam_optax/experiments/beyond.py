"""Further than the paper: what else p can do, on the recipe for text.

Each experiment is the recipe's Padam with one thing changed, all else as chosen there:

    padam run ptb-mini-padam-falling-p --data-dir DIR

- `falling-p`: p goes from 1/2 to 0 in the course of the training, from AMSGrad to momentum SGD, at AMSGrad's rate.
- `falling-p-converted`: the same, with Padam's rate converted to the p of each step.
- `group-p-converted`: p = 2/5 for a group, 1/8 for the rest, rates converted. The group is the embedding.
- `debiased`: that bias correction, in the place of the authors' code's.
- `p1-converted`: no root, p = 1, beyond what the paper proves, the rate converted.
- `p1-converted-debiased`: the same with that bias correction. Under the official one the first update is
  (1-b2)^(1/2-p) times as large as in AMSGrad: 32 times for p = 1, as v-hat starts at (1-b2) g^2.
- `decoupled`: AdamW's decay, normalised as in the paper, in the place of the coupled one.

A rate is converted by `padam_optax.convert_learning_rate`, from the p that it was chosen for.
"""

import dataclasses
from collections.abc import Iterator

from padam_optax.experiments import ptb
from padam_optax.experiments.methods import ParameterGroup
from padam_optax.experiments.spec import Experiment

# The medians of sqrt(v_hat) + eps at the end of a run of the recipe's Padam, of all coordinates and of the group's:
# benchmarks/records/studies/effective-rates.jsonl.
ROOTS: dict[str, tuple[float, float]] = {"ptb-mini": (1.2e-4, 1.1e-4)}
GROUPS = {"ptb-mini": ParameterGroup(names=("embedding",))}


def _variants() -> Iterator[Experiment]:
    for recipe, adamw in ((ptb.MINI, ptb.PAPER_SETTINGS[2]["adamw"]),):
        by_optimizer = {spec.optimizer: spec for spec in recipe}
        base = by_optimizer["padam"]
        own = base.hyperparameters
        root, group_root = ROOTS[base.suite]
        converted = {"rate_p": own["p"], "root": root}
        amsgrad = by_optimizer["amsgrad"].hyperparameters["learning_rate"]
        coupled = {name: value for name, value in own.items() if name != "weight_decay"}
        decay = adamw["normalized_weight_decay"]
        for name, optimizer, changed in (
            ("falling-p", "padam-falling", {**own, "learning_rate": amsgrad, "p": 0.5, "final_p": 0.0}),
            ("falling-p-converted", "padam-falling-converted", {**own, "p": 0.5, "final_p": 0.0, **converted}),
            (
                "group-p-converted",
                "padam-by-group-converted",
                {**own, "p": 0.125, "group_p": 0.4, **converted, "group_root": group_root},
            ),
            ("debiased", "padam", own),
            ("p1-converted", "padam-converted", {**own, "p": 1.0, **converted}),
            ("p1-converted-debiased", "padam-converted", {**own, "p": 1.0, **converted}),
            ("decoupled", "padamw", {**coupled, "normalized_weight_decay": decay}),
        ):
            yield dataclasses.replace(
                base,
                name=f"{base.name}-{name}",
                optimizer=optimizer,
                hyperparameters=changed,
                variant_of=base.name,
                seeds=(0, 1, 2),
                bias_correction="debiased" if name in ("debiased", "p1-converted-debiased") else base.bias_correction,
                allow_unproven_p=changed["p"] > 0.5,
                group=GROUPS[base.suite] if optimizer == "padam-by-group-converted" else None,
            )


EXPERIMENTS = tuple(_variants())
