"""The seven optimizers that the paper compares, behind one signature."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax._partial_amsgrad import BiasCorrection
from padam_optax.experiments.spec import OPTIMIZERS

Hyperparameters = Mapping[str, Any]


def make_optimizer(
    name: str,
    hyperparameters: Hyperparameters,
    schedule: Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike] = lambda count: 1.0,
    total_updates: int = 1,
    *,
    bias_correction: BiasCorrection = "official",
    decay_everything: bool = True,
    moment_dtype: str = "float32",
) -> optax.GradientTransformation:
    """Returns one of the seven as the paper's experiments use them.

    All but AdamW add the decay to the gradient (coupled). AMSGrad takes the maximum of the uncorrected second moment,
    as PyTorch and the paper do. AdamW's decay is Loshchilov and Hutter's normalised one: each step subtracts the
    schedule's factor times `normalized_weight_decay / sqrt(total_updates)` times the parameter, whatever the rate is.
    Yogi's moments start at 1e-6.

    Args:
      name: A key of `OPTIMIZERS`.
      hyperparameters: `learning_rate` and what the optimizer takes, numbers or traced scalars: `weight_decay` (all
        but AdamW), `momentum` (sgdm); `b1`, `b2`, `eps` (the others); `normalized_weight_decay` (adamw);
        `final_learning_rate`, `gamma` (adabound); `p` (padam).
      schedule: Factor of the learning rate as a function of the update count, which starts at 0.
      total_updates: Updates of the whole training, for AdamW's decay.
      bias_correction: Of Padam and AMSGrad; "official" is the authors' code's.
      decay_everything: Whether decay is on every parameter, or on those of two or more axes only.
      moment_dtype: Of Padam and AMSGrad: "float32", "bfloat16" (rounded stochastically) or "bfloat16-nearest".

    Raises:
      ValueError: If the name is unknown, or a hyper-parameter is missing or not one of the optimizer's.
    """
    if name not in _NAMES:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}.")
    if set(hyperparameters) != _NAMES[name]:
        expected, given = (", ".join(sorted(names)) for names in (_NAMES[name], set(hyperparameters)))
        raise ValueError(f"{name} takes the hyper-parameters {expected}; got {given}.")
    values = dict(hyperparameters)
    base = values.pop("learning_rate")

    def learning_rate(count: jax.typing.ArrayLike) -> jax.Array:
        return jnp.asarray(base) * schedule(count)

    mask = None if decay_everything else _matrices
    if name == "adamw":
        # optax.adamw multiplies the decay by the rate, base rate included; dividing by it leaves the schedule's factor.
        decay = values.pop("normalized_weight_decay") / total_updates**0.5 / base
        return optax.adamw(learning_rate, **values, weight_decay=decay, mask=mask)
    decay = values.pop("weight_decay")
    match name:
        case "padam" | "amsgrad":
            dtype = None if moment_dtype == "float32" else jnp.bfloat16
            optimizer = padam_optax.padam(
                learning_rate,
                **({"p": 0.5} | values),
                bias_correction=bias_correction,
                mu_dtype=dtype,
                nu_dtype=dtype,
                nu_rounding="nearest" if moment_dtype == "bfloat16-nearest" else "stochastic",
            )
        case "adabound":
            optimizer = padam_optax.adabound(learning_rate, **values, base_learning_rate=base)
        case _:
            optimizer = {"sgdm": optax.sgd, "adam": optax.adam, "yogi": optax.yogi}[name](learning_rate, **values)
    return optax.chain(optax.add_decayed_weights(decay, mask), optimizer)


def _matrices(params: optax.Params) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


_ADAM = {"learning_rate", "b1", "b2", "eps"}
_NAMES = {
    "sgdm": {"learning_rate", "momentum", "weight_decay"},
    "adam": {*_ADAM, "weight_decay"},
    "amsgrad": {*_ADAM, "weight_decay"},
    "adamw": {*_ADAM, "normalized_weight_decay"},
    "yogi": {*_ADAM, "weight_decay"},
    "adabound": {*_ADAM, "final_learning_rate", "gamma", "weight_decay"},
    "padam": {*_ADAM, "p", "weight_decay"},
}
