"""The registry of optimizers: the seven that the paper compares, and any that are added."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax import BiasCorrection

Hyperparameters: TypeAlias = Mapping[str, Any]
MomentDtype: TypeAlias = Literal["float32", "bfloat16", "bfloat16-nearest"]


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """A group of a network's parameters: those that meet one of two conditions.

    Attributes:
      names: Parameters under a part of the network with one of these names, such as `embedding`, belong to the group.
      most_axes: Parameters with at most this number of axes do too (1: scales and biases); None: no such condition.
    """

    names: tuple[str, ...] = ()
    most_axes: int | None = None

    def __call__(self, params: optax.Params) -> Any:
        """A tree of booleans like `params`: whether each parameter belongs to the group."""

        def belongs(path: tuple[Any, ...], leaf: Any) -> bool:
            parts = {jax.tree_util.keystr((key,), simple=True) for key in path}
            return not parts.isdisjoint(self.names) or (self.most_axes is not None and leaf.ndim <= self.most_axes)

        return jax.tree_util.tree_map_with_path(belongs, params)


@dataclasses.dataclass(frozen=True)
class MethodContext:
    """What an optimizer may need to know about a training beside its hyper-parameters.

    Attributes:
      factor: The schedule's factor of the learning rate at this step, a number or a scalar array, traced or not.
      total_updates: Updates of the whole training.
      decays: Maps the parameters to a tree of booleans, whether each decays; None if all do.
      bias_correction: For Padam and AMSGrad; see `padam_optax.padam`.
      moment_dtype: For Padam and AMSGrad, see `Experiment`.
      allow_unproven_p: Whether Padam's p may be above 1/2.
      group: The parameters that have hyper-parameters of their own.
    """

    factor: Any = 1.0
    total_updates: int = 1
    decays: Callable[[optax.Params], Any] | None = None
    bias_correction: BiasCorrection | None = None
    moment_dtype: MomentDtype = "float32"
    allow_unproven_p: bool = False
    group: ParameterGroup | None = None


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimizer of the experiments.

    Attributes:
      name: Unique, such as `padam`.
      title: Its name in tables and pictures.
      color: Colour of its curves, such as `#D55E00`.
      settings: Its hyper-parameters by name, `learning_rate` among them, with the values from which recipes start: for
        the paper's seven methods, its values for image classification.
      make: Maps values of the hyper-parameters, numbers or traced scalars, and a `MethodContext` to the optimizer. Its
        learning rate is `learning_rate` times the context's factor.
      keeps_moments: Whether it takes `moment_dtype`, as Padam's family does.
    """

    name: str
    title: str
    color: str
    settings: Mapping[str, float]
    make: Callable[[Hyperparameters, MethodContext], optax.GradientTransformation]
    keeps_moments: bool = False


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Adds a method: experiments may name it from now on.

    Raises:
      ValueError: If a method of that name exists already, or `settings` has no learning rate.
    """
    if method.name in METHODS:
        raise ValueError(f"There is a method called {method.name!r} already; give it another name.")
    if "learning_rate" not in method.settings:
        raise ValueError(f"settings of {method.name!r} must have a learning_rate; got {', '.join(method.settings)}.")
    METHODS[method.name] = method
    return method


def make_optimizer(
    name: str, hyperparameters: Hyperparameters, context: MethodContext | None = None
) -> optax.GradientTransformation:
    """Returns an optimizer as the experiments use it.

    All of the paper's seven but AdamW add the decay to the gradient (coupled). AMSGrad takes the maximum of the
    uncorrected second moment, as PyTorch and the paper do. AdamW's decay is Loshchilov and Hutter's normalised one:
    each step subtracts the schedule's factor times `normalized_weight_decay / sqrt(total_updates)` times the
    parameter, independently of the learning rate. Yogi's moments start at 1e-6.

    Args:
      name: A key of `METHODS`.
      hyperparameters: Numbers or traced scalars, by the names of the method's settings.
      context: The optimizer's context; by default a constant learning rate.

    Raises:
      ValueError: If the name is unknown, or a hyper-parameter is missing or not one of the optimizer's.
    """
    if name not in METHODS:
        raise ValueError(f"optimizer must be one of {', '.join(METHODS)}; got {name!r}.")
    method = METHODS[name]
    if hyperparameters.keys() != method.settings.keys():
        expected, given = (", ".join(sorted(names)) for names in (method.settings, hyperparameters))
        raise ValueError(f"{name} takes the hyper-parameters {expected}; got {given}.")
    return method.make(hyperparameters, MethodContext() if context is None else context)


def matrices(params: optax.Params) -> Any:
    """A tree of booleans: whether each parameter has two or more axes."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def rate_of(values: Hyperparameters, context: MethodContext) -> Any:
    """The learning rate at this step: a number, or an array if one of its factors is."""
    return values["learning_rate"] * context.factor


def coupled(
    values: Hyperparameters, context: MethodContext, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`optimizer` after a decay of `weight_decay` times the parameters, added to the gradients."""
    return optax.chain(optax.add_decayed_weights(values["weight_decay"], context.decays), optimizer)


def normalized_decay(values: Hyperparameters, context: MethodContext) -> Any:
    """AdamW's decay such that its product with the rate is the normalised decay times the schedule's factor."""
    return values["normalized_weight_decay"] / context.total_updates**0.5 / values["learning_rate"]


def moment_options(context: MethodContext) -> dict[str, Any]:
    """The arguments of `padam_optax.padam` and `padamw` that follow from the training."""
    dtype = None if context.moment_dtype == "float32" else jnp.bfloat16
    return {
        "bias_correction": context.bias_correction,
        "mu_dtype": dtype,
        "nu_dtype": dtype,
        "nu_rounding": "nearest" if context.moment_dtype == "bfloat16-nearest" else None,
        "allow_unproven_p": context.allow_unproven_p,
    }


def _sgdm(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    return coupled(values, context, optax.sgd(rate_of(values, context), values["momentum"]))


def _adam(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    return coupled(values, context, optax.adam(rate_of(values, context), **_moment_arguments(values)))


def _amsgrad(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    return _padam({**values, "p": 0.5}, context)


def _adamw(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    decay = normalized_decay(values, context)
    rate = rate_of(values, context)
    return optax.adamw(rate, **_moment_arguments(values), weight_decay=decay, mask=context.decays)


def _yogi(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    return coupled(values, context, optax.yogi(rate_of(values, context), **_moment_arguments(values)))


def _adabound(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    optimizer = padam_optax.adabound(
        rate_of(values, context),
        **_moment_arguments(values),
        final_learning_rate=values["final_learning_rate"],
        gamma=values["gamma"],
        base_learning_rate=values["learning_rate"],
    )
    return coupled(values, context, optimizer)


def _padam(values: Hyperparameters, context: MethodContext) -> optax.GradientTransformation:
    optimizer = padam_optax.padam(
        rate_of(values, context),
        **_moment_arguments(values),
        p=values["p"],
        reference_p=values.get("reference_p"),
        **moment_options(context),
    )
    return coupled(values, context, optimizer)


def _moment_arguments(values: Hyperparameters) -> dict[str, Any]:
    return {name: values[name] for name in ("b1", "b2", "eps")}


# Section 5, "For image classification experiments": rates, b1, b2, p, Yogi's eps, AdaBound's final rate, AdamW's
# normalised decay. eps and gamma are the authors' codes' defaults, weight decay 5e-4 their scripts'. The colours are
# Okabe and Ito's, which colour-blind readers can tell apart.
_MOMENTS = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
_DECAY = {"weight_decay": 5e-4}
_SEVEN = (
    Method("sgdm", "SGD-Momentum", "#0072B2", {"learning_rate": 0.1, "momentum": 0.9, **_DECAY}, _sgdm),
    Method("adam", "Adam", "#E69F00", {"learning_rate": 1e-3, **_MOMENTS, "b2": 0.99, **_DECAY}, _adam),
    Method(
        "amsgrad",
        "AMSGrad",
        "#56B4E9",
        {"learning_rate": 1e-3, **_MOMENTS, "b2": 0.99, **_DECAY},
        _amsgrad,
        keeps_moments=True,
    ),
    Method("adamw", "AdamW", "#009E73", {"learning_rate": 1e-3, **_MOMENTS, "normalized_weight_decay": 2.5e-2}, _adamw),
    Method("yogi", "Yogi", "#CC79A7", {"learning_rate": 1e-3, **_MOMENTS, "eps": 1e-3, **_DECAY}, _yogi),
    Method(
        "adabound",
        "AdaBound",
        "#8C8C8C",
        {"learning_rate": 1e-3, **_MOMENTS, "final_learning_rate": 0.1, "gamma": 1e-3, **_DECAY},
        _adabound,
    ),
    Method(
        "padam",
        "Padam",
        "#D55E00",
        {"learning_rate": 0.1, **_MOMENTS, "p": 0.125, **_DECAY},
        _padam,
        keeps_moments=True,
    ),
)
for _method in _SEVEN:
    register(_method)
# Padam with its learning rate in Adam's units, at Adam's rate.
register(
    Method(
        "padam-reference",
        "Padam at Adam's rates",
        METHODS["padam"].color,
        {**METHODS["padam"].settings, "learning_rate": 1e-3, "reference_p": 0.5},
        _padam,
        keeps_moments=True,
    )
)
