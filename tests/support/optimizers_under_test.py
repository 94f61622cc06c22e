"""The optimizers that every contract and sharding test goes through, and a run of one as a single scan."""

import functools

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


def make(
    name: str, learning_rate: optax.ScalarOrSchedule | None = None, **settings
) -> optax.GradientTransformationExtraArgs:
    return FACTORIES[name](RATES[name] if learning_rate is None else learning_rate, **settings)


def moments(state: optax.OptState) -> list[tuple[str, jax.Array]]:
    """What a state holds of the parameters' shapes, beside the name of the parameter's leaf; not counts and keys."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [
        (jax.tree_util.keystr(path[-1:], simple=True), leaf)
        for path, leaf in leaves
        if leaf.ndim and jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]


def minimise(optimizer, loss, params, steps: int, **extra_args):
    """Parameters and state after `steps` updates; complex gradients are conjugated, as Optax wants them."""

    def step(carry, _):
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params)
        named = {name: function(value) for name, function in extra_args.items()}
        updates, state = optimizer.update(optax.tree.conj(gradients), state, params, **named)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[0])
    return run((params, optimizer.init(params)))
