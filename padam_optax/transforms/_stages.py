"""The stages of a chain around a transformation: weight decay before or after it, the learning rate at the end."""

from typing import Any

import jax
import optax

from padam_optax.transforms import _checks


def weight_decay_stage(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None, *, keep_dtype: bool = False
) -> optax.GradientTransformation:
    """For a Python 0 a stage that needs no parameters and has the state of a decay by any other number."""
    is_zero = _checks.is_python_zero(weight_decay)
    decay = optax.identity() if is_zero else optax.add_decayed_weights(weight_decay)
    if mask is not None:
        decay = optax.masked(decay, mask)
    return keeping_dtype(decay) if keep_dtype else decay


def learning_rate_stage(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the learning rate and keeps their dtypes."""
    return keeping_dtype(optax.scale_by_learning_rate(learning_rate))


def keeping_dtype(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, its updates and state cast back to their dtypes (a float32 rate turns bfloat16 updates to float32)."""
    inner = optax.with_extra_args_support(inner)

    def update_fn(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        results = inner.update(updates, state, params, **extra_args)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), results, (updates, state))

    return optax.GradientTransformationExtraArgs(inner.init, update_fn)
