"""The stages of a chain around a transformation: weight decay before or after it, the learning rate at the end."""

from typing import Any

import jax
import optax

from padam_optax.transforms import _checks
from padam_optax.transforms._elementwise import Places


def weight_decay_stage(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None, *, keep_dtype: bool = False
) -> optax.GradientTransformation:
    """Adds the decay. For a Python 0 it needs no parameters and has the state of a decay by any other number."""
    is_zero = _checks.is_python_zero(weight_decay)
    decay = optax.identity() if is_zero else optax.add_decayed_weights(weight_decay)
    if mask is not None:
        decay = _masked(decay, mask)
    return keeping_dtype(decay) if keep_dtype else decay


def learning_rate_stage(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the learning rate, a finite number or a schedule, and keeps their dtypes."""
    _checks.check_finite("learning_rate", learning_rate)
    return keeping_dtype(optax.scale_by_learning_rate(learning_rate))


def momentum_stage(momentum: jax.typing.ArrayLike, nesterov: bool) -> optax.GradientTransformationExtraArgs:
    """Momentum by :func:`optax.trace` that keeps dtypes, and keeps the trace where there is no update."""
    trace = optax.trace(momentum, nesterov)

    def update_fn(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        del extra_args
        places = Places(updates)
        held = optax.TraceState(trace=places.of(state.trace))
        new, after = trace.update(places.of(updates), held, params)
        momenta = optax.tree.get(after, "trace")
        return places.put(updates, jax.tree.leaves(new)), state._replace(trace=places.put(state.trace, momenta))

    return keeping_dtype(optax.GradientTransformationExtraArgs(trace.init, update_fn))


def _masked(inner: optax.GradientTransformation, mask: Any) -> optax.GradientTransformation:
    """:func:`optax.masked`, but a mask function gets the parameters, because gradients may have None in them."""
    masked = optax.with_extra_args_support(optax.masked(inner, mask))

    def update_fn(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        if callable(mask) and params is not None:
            now = optax.with_extra_args_support(optax.masked(inner, mask(params)))
            return now.update(updates, state, params, **extra_args)
        return masked.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(masked.init, update_fn)


def keeping_dtype(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, its updates and state cast back to their dtypes (a float32 rate turns bfloat16 updates to float32)."""
    inner = optax.with_extra_args_support(inner)

    def update_fn(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        results = inner.update(updates, state, params, **extra_args)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), results, (updates, state))

    return optax.GradientTransformationExtraArgs(inner.init, update_fn)
