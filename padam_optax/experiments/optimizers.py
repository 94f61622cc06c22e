"""The seven optimizers that the paper compares, behind one signature."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax.experiments.spec import OPTIMIZERS

Hyperparameters = Mapping[str, jax.typing.ArrayLike]


def make_optimizer(
    name: str,
    hyperparameters: Hyperparameters,
    schedule: Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike] = lambda count: 1.0,
    total_updates: int = 1,
) -> optax.GradientTransformation:
    """Returns one of the seven as the paper's experiments use them.

    All but AdamW add the decay to the gradient (coupled). AMSGrad takes the maximum of the uncorrected second moment,
    as PyTorch and the paper do. AdamW's decay is Loshchilov and Hutter's normalised one: each step subtracts the
    schedule's factor times `normalized_weight_decay / sqrt(total_updates)` times the parameter, whatever the rate is.
    Yogi's moments start at 1e-6. Padam is the authors' code's: bias correction "official".

    Args:
      name: A key of `OPTIMIZERS`.
      hyperparameters: `learning_rate` and what the optimizer takes, numbers or traced scalars: `weight_decay` (all
        but AdamW), `momentum` (sgdm); `b1`, `b2`, `eps` (the others); `normalized_weight_decay` (adamw);
        `final_learning_rate`, `gamma` (adabound); `p` (padam).
      schedule: Factor of the learning rate as a function of the update count, which starts at 0.
      total_updates: Updates of the whole training, for AdamW's decay.

    Raises:
      ValueError: If the name is unknown.
      TypeError: If a hyper-parameter is missing or not one of the optimizer's.
    """
    if name not in _FACTORIES:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}.")
    base = hyperparameters["learning_rate"]
    rest = {key: value for key, value in hyperparameters.items() if key != "learning_rate"}

    def learning_rate(count: jax.typing.ArrayLike) -> jax.Array:
        return jnp.asarray(base) * schedule(count)

    if name == "adamw":
        rest["total_updates"] = total_updates
    if name in ("adamw", "adabound"):
        rest["base_learning_rate"] = base
    return _FACTORIES[name](learning_rate, **rest)


def _sgdm(learning_rate, *, momentum, weight_decay) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum))


def _adam(learning_rate, *, b1, b2, eps, weight_decay) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1, b2, eps))


def _amsgrad(learning_rate, *, b1, b2, eps, weight_decay) -> optax.GradientTransformation:
    return padam_optax.padam(learning_rate, b1, b2, eps, p=0.5, weight_decay=weight_decay, bias_correction="official")


def _adamw(
    learning_rate, *, b1, b2, eps, normalized_weight_decay, total_updates, base_learning_rate
) -> optax.GradientTransformation:
    # optax.adamw multiplies the decay by the rate, base rate included; dividing by it leaves the schedule's factor.
    decay = normalized_weight_decay / total_updates**0.5 / base_learning_rate
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=decay)


def _yogi(learning_rate, *, b1, b2, eps, weight_decay) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.yogi(learning_rate, b1, b2, eps))


def _adabound(
    learning_rate, *, b1, b2, eps, final_learning_rate, gamma, weight_decay, base_learning_rate
) -> optax.GradientTransformation:
    return padam_optax.adabound(
        learning_rate,
        b1,
        b2,
        eps,
        final_learning_rate=final_learning_rate,
        base_learning_rate=base_learning_rate,
        gamma=gamma,
        weight_decay=weight_decay,
    )


def _padam(learning_rate, *, b1, b2, eps, p, weight_decay) -> optax.GradientTransformation:
    return padam_optax.padam(learning_rate, b1, b2, eps, p=p, weight_decay=weight_decay, bias_correction="official")


_FACTORIES = {
    "sgdm": _sgdm,
    "adam": _adam,
    "amsgrad": _amsgrad,
    "adamw": _adamw,
    "yogi": _yogi,
    "adabound": _adabound,
    "padam": _padam,
}
