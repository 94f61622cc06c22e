"""The optimizers that every contract and sharding test goes through, and runs of several of them as a single scan."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

import padam_optax

RATE = 0.03

FACTORIES = {
    "padam-1/8": functools.partial(padam_optax.padam, p=1 / 8),
    "padam-1/4": functools.partial(padam_optax.padam, p=1 / 4),
    "padam-1/2": functools.partial(padam_optax.padam, p=1 / 2),
    "padam-1/5": functools.partial(padam_optax.padam, p=1 / 5),
    "padam-official": functools.partial(padam_optax.padam, bias_correction="official"),
    "padam-bfloat16": functools.partial(padam_optax.padam, nu_dtype="bfloat16"),
    "padam-reference": functools.partial(padam_optax.padam, reference_p=1 / 2),
    "padam-reference-all": functools.partial(padam_optax.padam, p=1 / 5, reference_p=1 / 2, reference_scope="all"),
    "padamw": padam_optax.padamw,
    "adabound": functools.partial(padam_optax.adabound, final_learning_rate=RATE, base_learning_rate=RATE),
    "amsbound": functools.partial(
        padam_optax.adabound, final_learning_rate=RATE, base_learning_rate=RATE, amsbound=True
    ),
    "partial-adagrad": functools.partial(padam_optax.partial_adagrad, p=1 / 4),
    "partial-rmsprop": padam_optax.partial_rmsprop,
    "partial-rmsprop-centered": functools.partial(
        padam_optax.partial_rmsprop, centered=True, momentum=0.9, eps_in_sqrt=False
    ),
    "partial-adadelta": functools.partial(padam_optax.partial_adadelta, p=1 / 4),
    "partial-adamax": padam_optax.partial_adamax,
}

# In the sharding tests only: its update needs the parameters.
SAMPLED = padam_optax.with_sampled_iterate(padam_optax.padam(RATE), RATE, jax.random.key(0))

# Gradient descent on Rosenbrock's function needs a small rate; without AMSGrad's maximum these come close to it.
RATES = dict.fromkeys(FACTORIES, RATE) | {
    "partial-rmsprop": 1e-3,
    "partial-rmsprop-centered": 1e-3,
    "partial-adadelta": 2e-3,
}

# The transformations themselves, without decay, learning rate and the stages that keep dtypes.
SCALES: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "amsgrad": padam_optax.scale_by_partial_amsgrad,
    "adabound": functools.partial(padam_optax.scale_by_adabound, final_ratio=1.0),
    "amsbound": functools.partial(padam_optax.scale_by_adabound, final_ratio=1.0, amsbound=True),
    "rss": padam_optax.scale_by_partial_rss,
    "rms": padam_optax.scale_by_partial_rms,
    "stddev": padam_optax.scale_by_partial_stddev,
    "adadelta": padam_optax.scale_by_partial_adadelta,
    "adamax": padam_optax.scale_by_partial_adamax,
}


def make(
    name: str, learning_rate: optax.ScalarOrSchedule | None = None, **settings
) -> optax.GradientTransformationExtraArgs:
    return FACTORIES[name](RATES[name] if learning_rate is None else learning_rate, **settings)


def moments(state: optax.OptState) -> list[tuple[str, jax.Array]]:
    """What a state holds of the parameters' shapes, beside the name of the parameter's leaf.

    Not counts and keys, nor the vector of reference roots.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [
        (jax.tree_util.keystr(path[-1:], simple=True), leaf)
        for path, leaf in leaves
        if leaf.ndim and "reference_root" not in jax.tree_util.keystr(path) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]


def side_by_side(
    optimizers: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
    """One optimizer of a dictionary of trees, each updated by its own: tests take time for compiling programs."""
    each = {name: optax.with_extra_args_support(optimizer) for name, optimizer in optimizers.items()}

    def init_fn(params):
        return {name: optimizer.init(params[name]) for name, optimizer in each.items()}

    def update_fn(updates, state, params, **extra_args):
        results = {
            name: optimizer.update(updates[name], state[name], params[name], **extra_args)
            for name, optimizer in each.items()
        }
        return tuple({name: result[i] for name, result in results.items()} for i in (0, 1))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def minimise(
    optimizers: Mapping[str, optax.GradientTransformation], loss, start, steps: int, **extra_args
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and states by name after `steps` updates of each optimizer, in one program.

    Extra arguments are functions of an optimizer's own loss. Complex gradients are conjugated, as Optax wants them.
    """

    def update(optimizer, params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        named = {name: function(value) for name, function in extra_args.items()}
        updates, state = optimizer.update(optax.tree.conj(gradients), state, params, **named)
        return optax.apply_updates(params, updates), state

    def step(carry, _):
        params, states = carry
        results = {name: update(optimizer, params[name], states[name]) for name, optimizer in optimizers.items()}
        return tuple({name: result[i] for name, result in results.items()} for i in (0, 1)), None

    params = dict.fromkeys(optimizers, start)
    states = {name: optimizer.init(start) for name, optimizer in optimizers.items()}
    return jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[0])((params, states))


def types(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
