"""The seven optimizers that the paper compares, behind one signature."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax.experiments.spec import OPTIMIZERS
from padam_optax.transforms.partial_amsgrad import BiasCorrection

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
    allow_unproven_p: bool = False,
) -> optax.GradientTransformation:
    """Returns one of the seven as the paper's experiments use them.

    All but AdamW add the decay to the gradient (coupled). AMSGrad takes the maximum of the uncorrected second moment,
    as PyTorch and the paper do. AdamW's decay is Loshchilov and Hutter's normalised one: each step subtracts the
    schedule's factor times `normalized_weight_decay / sqrt(total_updates)` times the parameter, whatever the rate is.
    Yogi's moments start at 1e-6.

    Padam may have more than the paper's, for `experiments.beyond`: with `final_p` its p moves from `p` to that,
    linearly in the updates; with `group_p` the leaves that `in_group` finds have a p of their own; with `rate_p` and
    `root` (and `group_root` for the group) the learning rate is meant for that p, and converted to the one in use
    (`convert_learning_rate`); `normalized_weight_decay` in the place of `weight_decay` is AdamW's.

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
      allow_unproven_p: Whether Padam's p may be above 1/2.

    Raises:
      ValueError: If the name is unknown, or a hyper-parameter is missing or not one of the optimizer's.
    """
    if name not in _NAMES:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}.")
    needed, known = _needed(name, hyperparameters), set(hyperparameters)
    if known != needed:
        expected, given = (", ".join(sorted(names)) for names in (needed, known))
        raise ValueError(f"{name} takes the hyper-parameters {expected}; got {given}.")
    values = dict(hyperparameters)
    base = values.pop("learning_rate")

    def learning_rate(count: jax.typing.ArrayLike) -> jax.Array:
        return jnp.asarray(base) * schedule(count)

    mask = None if decay_everything else _matrices
    decoupled = "normalized_weight_decay" in values
    # A decoupled decay is multiplied by the rate, base rate included; dividing by it leaves the schedule's factor.
    decay = (
        values.pop("normalized_weight_decay") / total_updates**0.5 / base if decoupled else values.pop("weight_decay")
    )
    if name == "adamw":
        return optax.adamw(learning_rate, **values, weight_decay=decay, mask=mask)
    match name:
        case "padam" | "amsgrad":
            dtype = None if moment_dtype == "float32" else jnp.bfloat16
            options: dict[str, Any] = {
                "bias_correction": bias_correction,
                "mu_dtype": dtype,
                "nu_dtype": dtype,
                "nu_rounding": "nearest" if moment_dtype == "bfloat16-nearest" else "stochastic",
                "allow_unproven_p": allow_unproven_p,
            }
            make = padam_optax.padam
            if decoupled:
                make, options = padam_optax.padamw, {**options, "weight_decay": decay, "mask": mask}
            optimizer = _padam(functools.partial(make, **options), learning_rate, {"p": 0.5} | values, total_updates)
        case "adabound":
            optimizer = padam_optax.adabound(learning_rate, **values, base_learning_rate=base)
        case _:
            optimizer = {"sgdm": optax.sgd, "adam": optax.adam, "yogi": optax.yogi}[name](learning_rate, **values)
    return optimizer if decoupled else optax.chain(optax.add_decayed_weights(decay, mask), optimizer)


def _padam(
    make: Callable[..., optax.GradientTransformation],
    learning_rate: Callable[[jax.typing.ArrayLike], jax.Array],
    values: dict[str, Any],
    total_updates: int,
) -> optax.GradientTransformation:
    """`make(rate, p=..., **values)`, with what experiments beyond the paper add to it."""
    first, last, group_p, rate_p, root, group_root = (
        values.pop(name, None) for name in ("p", "final_p", "group_p", "rate_p", "root", "group_root")
    )

    def falling(count: jax.typing.ArrayLike) -> Any:
        return first + (last - first) * jnp.minimum(jnp.asarray(count) / total_updates, 1)

    def with_p(p: Any, root: Any) -> optax.GradientTransformation:
        rate = learning_rate if rate_p is None else padam_optax.convert_learning_rate(learning_rate, rate_p, p, root)
        return make(rate, p=p, **values)

    rest = with_p(first if last is None else falling, root)
    if group_p is None:
        return rest
    return optax.partition({True: with_p(group_p, group_root), False: rest}, in_group)


def in_group(params: optax.Params) -> Any:
    """What has the p of the group: embeddings; in a network without any the leaves of fewer than two axes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    embeddings = any("embedding" in jax.tree_util.keystr(path) for path, _ in leaves)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: "embedding" in jax.tree_util.keystr(path) if embeddings else leaf.ndim < 2, params
    )


def _needed(name: str, given: Hyperparameters) -> set[str]:
    """The hyper-parameters of an optimizer; for Padam, those of the forms of `given`."""
    needed = set(_NAMES[name])
    if name == "padam":
        needed |= given.keys() & {"final_p", "group_p"}
        if given.keys() & {"rate_p", "root", "group_root"}:
            needed |= {"rate_p", "root"} | ({"group_root"} if "group_p" in given else set())
        if "normalized_weight_decay" in given:
            needed = needed - {"weight_decay"} | {"normalized_weight_decay"}
    return needed


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
