"""The recurrence of an LSTM layer with a custom gradient.

Differentiating a `lax.scan` carries the gradient of the recurrent kernel through the loop and adds a product of rank
"rows" to it at every step, which reads and writes the whole matrix. Here the backward loop computes only the gradients
of the gates; one matrix product after it gives the kernel's gradient.

The loops run over all steps. Steps from `length` on are masked before and after the loops, so that no step needs a
select.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

State = tuple[jax.Array, jax.Array]
# On a GPU the host decides after each iteration whether there is another; a step's small kernels would run in this
# time. This is not measured on a GPU. On CPU unrolling gains nothing and compiles 10 times longer.
_UNROLLED = 5
_Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, State, jax.Array]


def _product(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """The matrix product in the kernel's precision, accumulated and returned in that of `values`."""
    return jnp.matmul(values.astype(kernel.dtype), kernel, preferred_element_type=values.dtype)


def _scan(step: Callable[..., Any], carry: State, inputs: Any, *, reverse: bool = False) -> Any:
    """`lax.scan`, with `_UNROLLED` steps an iteration on GPUs."""
    scan = functools.partial(jax.lax.scan, step, reverse=reverse)
    unrolled = functools.partial(scan, unroll=_UNROLLED)
    return jax.lax.platform_dependent(carry, inputs, cuda=unrolled, rocm=unrolled, default=scan)


def _activate(gates: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


@jax.custom_vjp
def lstm_recurrence(
    gates_input: jax.Array, kernel: jax.Array, state: State, length: jax.Array
) -> tuple[jax.Array, State]:
    """Runs an LSTM layer over the first `length` of T steps.

    z_t = gates_input_t + h_{t-1} kernel, split into i, f, g, o;
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g), h_t = sigmoid(o) tanh(c_t).

    Args:
      gates_input: The inputs' and biases' part of the gates, (T, B, 4 H); everything but products has its dtype.
      kernel: Hidden to hidden, (H, 4 H); products have its dtype, for example bfloat16.
      state: (h, c) before the first step, (B, H) each.
      length: int32 scalar, at most T. Outputs of later steps are 0 and the state stays as it is.

    Returns:
      Outputs h, (T, B, H), and the state after `length` steps.
    """
    return _forward(gates_input, kernel, state, length)[0]


def _forward(
    gates_input: jax.Array, kernel: jax.Array, state: State, length: jax.Array
) -> tuple[tuple[jax.Array, State], _Saved]:
    counts = _counts(gates_input.shape[0], length)

    def step(carry: State, gates: jax.Array) -> tuple[State, tuple[jax.Array, jax.Array, jax.Array]]:
        h, c = carry
        z = gates + _product(h, kernel)
        i, f, g, o = _activate(z)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, z, c)

    # Later steps go on from the last step that counts: their values stay finite for any inputs.
    _, (hidden, z, cells) = _scan(step, state, jnp.where(counts, gates_input, 0))
    end = tuple(
        jax.lax.dynamic_index_in_dim(_from(first, rest), length, keepdims=False)
        for first, rest in zip(state, (hidden, cells), strict=True)
    )
    return (jnp.where(counts, hidden, 0), end), (kernel, hidden, z, cells, state, length)


def _counts(steps: int, length: jax.Array) -> jax.Array:
    """Which steps count, (T, 1, 1)."""
    return (jnp.arange(steps) < length)[:, None, None]


def _from(first: jax.Array, rest: jax.Array) -> jax.Array:
    """The state before each step, and the state after the last one."""
    return jnp.concatenate([first[None], rest])


def _backward(saved: _Saved, cotangents: tuple[jax.Array, State]) -> tuple[jax.Array, jax.Array, State, None]:
    kernel, hidden, z, cells, (h_before, c_before), length = saved
    d_outputs, d_end = cotangents
    transposed = kernel.T
    counts = _counts(z.shape[0], length)
    # The final state is the one after step `length`, so its gradient enters there; later states have gradient 0.
    d_hidden, d_cells = (jnp.zeros((z.shape[0] + 1, *end.shape), end.dtype).at[length].set(end) for end in d_end)
    d_hidden = d_hidden.at[1:].add(jnp.where(counts, d_outputs, 0))

    def step(carry: State, at: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
        d_h, d_c, z, cell, previous = (*carry, *at[2:])
        i, f, g, o = _activate(z)
        squashed = jnp.tanh(cell)
        d_out = d_h + at[0]
        d_cell = d_c + at[1] + d_out * o * (1 - squashed**2)
        d_z = jnp.concatenate(
            [
                d_cell * g * i * (1 - i),
                d_cell * previous * f * (1 - f),
                d_cell * i * (1 - g**2),
                d_out * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return (_product(d_z, transposed), d_cell * f), d_z

    nothing = jax.tree.map(jnp.zeros_like, d_end)
    inputs = (d_hidden[1:], d_cells[1:], z, cells, _from(c_before, cells)[:-1])
    (d_h, d_c), d_gates = _scan(step, nothing, inputs, reverse=True)
    d_state = (d_h + d_hidden[0], d_c + d_cells[0])
    previous_outputs = _from(h_before, hidden)[:-1]
    d_kernel = jnp.einsum(
        "tbh,tbg->hg",
        previous_outputs.astype(kernel.dtype),
        d_gates.astype(kernel.dtype),
        preferred_element_type=kernel.dtype,
    )
    return d_gates, d_kernel, d_state, None


lstm_recurrence.defvjp(_forward, _backward)
