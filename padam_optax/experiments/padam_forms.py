"""Further forms of Padam for the experiments of `beyond`: each registered optimizer adds one thing to Padam."""

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
    normalized_decay,
    rate_of,
    register,
)

_MOMENTS = ("b1", "b2", "eps")


def _padam(values: Hyperparameters, context: MethodContext, rate: Any, p: Any) -> optax.GradientTransformation:
    moments = {name: values[name] for name in _MOMENTS}
    return padam_optax.padam(rate, p=p, **moments, **moment_options(context))


def _falling(values: Hyperparameters, context: MethodContext) -> Any:
    """p as a schedule, linear in the updates from `p` to `final_p`."""
    first, last = values["p"], values["final_p"]

    def p(count: jax.typing.ArrayLike) -> Any:
        return first + (last - first) * jnp.minimum(jnp.asarray(count) / context.total_updates, 1)

    return p


def _converted(values: Hyperparameters, context: MethodContext, p: Any, root: str = "root") -> Any:
    """The learning rate, given for `rate_p`, converted to the p in use."""
    return padam_optax.convert_learning_rate(rate_of(values, context), values["rate_p"], p, values[root])


def _make_falling(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    p = _falling(values, context)
    return coupled(values, context, _padam(values, context, rate_of(values, context), p))


def _make_falling_converted(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    p = _falling(values, context)
    return coupled(values, context, _padam(values, context, _converted(values, context, p), p))


def _make_converted(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    p = values["p"]
    return coupled(values, context, _padam(values, context, _converted(values, context, p), p))


def _make_by_group_converted(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    if context.group is None:
        raise ValueError("padam-by-group-converted needs a group: the experiment names one (Experiment.group).")
    group_p, p = values["group_p"], values["p"]
    group = _padam(values, context, _converted(values, context, group_p, "group_root"), group_p)
    rest = _padam(values, context, _converted(values, context, p), p)
    return coupled(values, context, optax.partition({True: group, False: rest}, context.group))


def _make_padamw(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    return padam_optax.padamw(
        rate_of(values, context),
        **{name: values[name] for name in _MOMENTS},
        p=values["p"],
        weight_decay=normalized_decay(values, context),
        mask=context.decays,
        **moment_options(context),
    )


_PADAM = METHODS["padam"]
_SETTINGS = dict(_PADAM.settings)
_RATE = {"rate_p": 0.125, "root": 1e-3}
_UNCOUPLED = {name: value for name, value in _SETTINGS.items() if name != "weight_decay"}

for _name, _title, _settings, _make in (
    ("padam-falling", "Padam, p falling", {**_SETTINGS, "p": 0.5, "final_p": 0.0}, _make_falling),
    (
        "padam-falling-converted",
        "Padam, p falling, rate converted",
        {**_SETTINGS, "p": 0.5, "final_p": 0.0, **_RATE},
        _make_falling_converted,
    ),
    ("padam-converted", "Padam, rate converted", {**_SETTINGS, **_RATE}, _make_converted),
    (
        "padam-by-group-converted",
        "Padam, p by group, rates converted",
        {**_SETTINGS, "group_p": 0.4, **_RATE, "group_root": 1e-3},
        _make_by_group_converted,
    ),
    ("padamw", "PadamW", {**_UNCOUPLED, "normalized_weight_decay": 2.5e-2}, _make_padamw),
):
    register(Method(_name, _title, _PADAM.color, _settings, _make, keeps_moments=True))
