"""Further forms of Padam, for the experiments of `beyond`: optimizers of the registry that add one thing to it each.

All have `reference_p`, so that one learning rate serves every p that a form takes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax.experiments.methods import (
    METHODS,
    Hyperparameters,
    Method,
    MethodContext,
    coupled,
    moment_options,
    rate_of,
    register,
)


def _padam(values: Hyperparameters, context: MethodContext, p: Any) -> optax.GradientTransformation:
    named = {name: values[name] for name in ("b1", "b2", "eps", "reference_p")}
    return padam_optax.padam(rate_of(values, context), p=p, **named, **moment_options(context))


def _make_falling(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    first, last = values["p"], values["final_p"]

    def p(count: jax.typing.ArrayLike) -> Any:
        return first + (last - first) * jnp.minimum(jnp.asarray(count) / context.total_updates, 1)

    return coupled(values, context, _padam(values, context, p))


def _make_by_group(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    if context.group is None:
        raise ValueError("padam-by-group needs a group: the experiment names one (Experiment.group).")
    group, rest = (_padam(values, context, values[name]) for name in ("group_p", "p"))
    return coupled(values, context, optax.partition({True: group, False: rest}, context.group))


_PADAM = METHODS["padam-reference"]
for _name, _title, _further, _make in (
    ("padam-falling", "Padam, p falling", {"final_p": 0.125}, _make_falling),
    ("padam-by-group", "Padam, p by group", {"group_p": 0.5}, _make_by_group),
):
    register(Method(_name, _title, _PADAM.color, {**_PADAM.settings, **_further}, _make, keeps_moments=True))
