"""The recurrence of an LSTM layer with a gradient of its own.

Differentiating a `lax.scan` carries the gradient of the recurrent kernel through the loop and adds a product of rank
"rows" to it at every step: that is a read and a write of the whole matrix a step. Here the backward loop only finds the
gradients of the gates; the kernel's gradient is one matrix product after it.
"""

import jax
import jax.numpy as jnp

State = tuple[jax.Array, jax.Array]
_Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array, State, jax.Array]


def _product(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """In the kernel's precision, accumulated and returned in that of `values`."""
    return jnp.matmul(values.astype(kernel.dtype), kernel, preferred_element_type=values.dtype)


def _activate(gates: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


@jax.custom_vjp
def lstm_recurrence(
    gates_input: jax.Array, kernel: jax.Array, state: State, length: jax.Array
) -> tuple[jax.Array, State]:
    """Runs an LSTM layer over T steps, of which the first `length` count.

    z_t = gates_input_t + h_{t-1} kernel, split into i, f, g, o;
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g), h_t = sigmoid(o) tanh(c_t).

    Args:
      gates_input: What the inputs and the biases give to the gates, (T, B, 4 H); its dtype is that of all but products.
      kernel: Hidden to hidden, (H, 4 H); its dtype, bfloat16 perhaps, is that in which products are taken.
      state: (h, c) before the first step, (B, H) each.
      length: int32 scalar, at most T. Outputs of later steps are 0 and the state stays as it is.

    Returns:
      Outputs h, (T, B, H), and the state after `length` steps.
    """
    return _forward(gates_input, kernel, state, length)[0]


def _forward(
    gates_input: jax.Array, kernel: jax.Array, state: State, length: jax.Array
) -> tuple[tuple[jax.Array, State], _Saved]:
    def step(carry: State, at: tuple[jax.Array, jax.Array]) -> tuple[State, tuple[jax.Array, jax.Array, jax.Array]]:
        time, gates = at
        h, c = carry
        z = gates + _product(h, kernel)
        i, f, g, o = _activate(z)
        new_c = f * c + i * g
        new_h = o * jnp.tanh(new_c)
        counts = time < length
        kept = (jnp.where(counts, new_h, h), jnp.where(counts, new_c, c))
        return kept, (jnp.where(counts, new_h, 0), z, new_c)

    times = jnp.arange(gates_input.shape[0])
    end, (outputs, z, cells) = jax.lax.scan(step, state, (times, gates_input))
    return (outputs, end), (kernel, outputs, z, cells, state, length)


def _backward(saved: _Saved, cotangents: tuple[jax.Array, State]) -> tuple[jax.Array, jax.Array, State, None]:
    kernel, outputs, z, cells, (h_before, c_before), length = saved
    d_outputs, d_end = cotangents
    transposed = kernel.T
    previous_cells = jnp.concatenate([c_before[None], cells[:-1]])

    def step(carry: State, at: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
        time, d_output, z, cell, previous = at
        d_h, d_c = carry
        i, f, g, o = _activate(z)
        squashed = jnp.tanh(cell)
        d_out = d_h + d_output
        d_cell = d_c + d_out * o * (1 - squashed**2)
        d_z = jnp.concatenate(
            [
                d_cell * g * i * (1 - i),
                d_cell * previous * f * (1 - f),
                d_cell * i * (1 - g**2),
                d_out * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        counts = time < length
        d_z = jnp.where(counts, d_z, 0)
        return (jnp.where(counts, _product(d_z, transposed), d_h), jnp.where(counts, d_cell * f, d_c)), d_z

    times = jnp.arange(z.shape[0])
    d_state, d_gates = jax.lax.scan(step, d_end, (times, d_outputs, z, cells, previous_cells), reverse=True)
    previous_outputs = jnp.concatenate([h_before[None], outputs[:-1]])
    d_kernel = jnp.einsum(
        "tbh,tbg->hg",
        previous_outputs.astype(kernel.dtype),
        d_gates.astype(kernel.dtype),
        preferred_element_type=kernel.dtype,
    )
    return d_gates, d_kernel, d_state, None


lstm_recurrence.defvjp(_forward, _backward)
