"""Further forms of Padam, for the experiments of `beyond`: optimizers of the registry that add one thing to it each.

All have `reference_p`, so that one learning rate serves every p that a form takes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from padam_optax.experiments.methods import METHODS, Hyperparameters, Method, MethodContext, register

_PADAM = METHODS["padam-reference"]


def _make_falling(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    first, last = values["p"], values["final_p"]

    def p(count: jax.typing.ArrayLike) -> Any:
        return first + (last - first) * jnp.minimum(jnp.asarray(count) / context.total_updates, 1)

    return _PADAM.make({**values, "p": p}, context)


def _make_by_group(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    if context.group is None:
        raise ValueError("padam-by-group needs a group: the experiment names one (Experiment.group).")
    group, rest = (_PADAM.make({**values, "p": values[name]}, context) for name in ("group_p", "p"))
    return optax.partition({True: group, False: rest}, context.group)


for _name, _title, _further, _make in (
    ("padam-falling", "Padam, p falling", {"final_p": 0.125}, _make_falling),
    ("padam-by-group", "Padam, p by group", {"group_p": 0.5}, _make_by_group),
):
    register(Method(_name, _title, _PADAM.color, {**_PADAM.settings, **_further}, _make, keeps_moments=True))
