"""Effective learning rates: the paper's "small learning rate dilemma" (section 3) in a state's own numbers.

The rate that Padam applies to a coordinate's momentum is `alpha_t / v_hat_t^p`. A large p makes some of these rates
large, which forces a small `alpha_t`; after a few decays most of them are too small to matter. The functions here
compute the rates from the state of any optimizer that holds `nu_max`, inside chains, masks, partitions and
`optax.inject_hyperparams`:

- `effective_learning_rates` returns all of them;
- `summarize` returns their quantiles and the share below a threshold;
- `measure` does the same inside `optax.monitor`;
- `median_root` returns the root that `padam_optax.convert_learning_rate` needs. It also reads the states of optax's
  Adam, AdamW and RMSProp.

    from padam_optax import diagnostics
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import (
    Now,
    check_decay,
    check_non_negative,
    check_p,
    common_dtype,
    compute_dtype,
    debias,
    decay_squares,
    divide_by_power,
    elementwise,
    init_nu,
    root,
    value_at,
    widened,
)
from padam_optax.transforms.learning_rates import convert_learning_rate
from padam_optax.transforms.partial_rmsprop import ScaleByPartialRmsState

__all__ = ["QUANTILES", "MeasureState", "Summary", "effective_learning_rates", "measure", "median_root", "summarize"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Summary(NamedTuple):
    """How effective learning rates are distributed; a tree of arrays, so that it can leave a compiled function.

    Attributes:
      quantiles: Quantiles over all coordinates; shape (number of quantiles,), float32 at least.
      share_below: Share of all coordinates whose rate is below the threshold, float32 scalar.
      leaf_quantiles: The same quantiles of each leaf, by its name (`"['w']"` for `params["w"]`).
      leaf_share_below: The same share of each leaf, by its name.
    """

    quantiles: jax.Array
    share_below: jax.Array
    leaf_quantiles: dict[str, jax.Array]
    leaf_share_below: dict[str, jax.Array]


def effective_learning_rates(
    state: optax.OptState,
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    p: optax.ScalarOrSchedule | None = None,
    eps: jax.typing.ArrayLike | None = None,
    reference_p: jax.typing.ArrayLike | None = None,
) -> dict[str, jax.Array]:
    r"""The rate of each coordinate, :math:`\alpha_t / (\sqrt{\hat{v}_t} + \varepsilon)^{2p}`.

    Args:
      state: Any tree that holds states with a field `nu_max` and a field `count`: those of
        :func:`padam_optax.scale_by_partial_amsgrad` and :func:`padam_optax.padam`, of
        :func:`padam_optax.scale_by_adabound` with `amsbound`, of :func:`optax.scale_by_amsgrad` (p = 1/2).
      learning_rate: :math:`\alpha_t`, a number, an array or a schedule, which is called with the index of the last
        update that the state has seen (0 before the first). By default the `learning_rate` that
        :func:`optax.inject_hyperparams` holds in `state`.
      p: The partially adaptive parameter: a number, an array or a schedule; by default the injected one. Only a Python
        number is checked: an array, a traced value or a schedule may hold any value.
      eps: Added to the root of `nu_max`; by default the injected one, or 1e-8, which is Padam's default.
      reference_p: The optimizer's, needed where the state holds a reference root; by default the injected one.

    Returns:
      A dictionary from the name of each leaf of the parameters, as :func:`jax.tree_util.keystr` writes its path, to the
      rates of its coordinates: the shape of the leaf and the dtype of its `nu_max`, float32 at least. Leaves that are
      masked, or that another optimizer of a partition updates, are left out. A rate is 0 where eps and `nu_max` are 0,
      because the update is 0 there. The rates leave out the bias correction of "official" and "debiased", which tends
      to 1.

    Raises:
      ValueError: If no state has `nu_max`, two have it for one leaf, an argument is neither given nor injected, or an
        argument is injected more than once (then give it, or take the states of a partition one by one); if a Python
        number p is outside [0, 1] or eps is negative or not finite.

    Examples:
      >>> import jax.numpy as jnp, optax, padam_optax
      >>> from padam_optax import diagnostics
      >>> optimizer = padam_optax.padam(0.1, b2=0.75, p=1/4)
      >>> params = {'w': jnp.array([2., 8., 32.])}
      >>> _, state = optimizer.update(params, optimizer.init(params))  # nu_max is 1, 16, 256
      >>> rates = diagnostics.effective_learning_rates(state, 0.1, p=1/4)
      >>> print({name: [f'{x:.4f}' for x in leaf] for name, leaf in rates.items()})
      {"['w']": ['0.1000', '0.0500', '0.0250']}

    References:
      Chen et al., `Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks
      <https://arxiv.org/abs/1806.06763>`_, IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.diagnostics.summarize`
    """
    learning_rate = _given_or_injected("learning_rate", learning_rate, state)
    p = _given_or_injected("p", p, state)
    root_eps = _given_or_injected("eps", eps, state, default=1e-8)
    check_p(p, highest=1)
    check_non_negative("eps", root_eps)
    rates: dict[str, jax.Array] = {}
    for node in _states_with_nu_max(state):
        last = jnp.maximum(node.count - 1, 0)
        alpha, p_now = value_at(learning_rate, last), value_at(p, last)
        roots, factors = getattr(node, "reference_root", None), jnp.ones([])
        if roots is not None:
            q = _given_or_injected("reference_p", reference_p, state)
            factors = jnp.where(roots > 0, convert_learning_rate(1.0, q, p_now, jnp.where(roots > 0, roots, 1)), 1)
        leaves = jax.tree_util.tree_leaves_with_path(node.nu_max, is_leaf=lambda leaf: leaf is None)
        for i, (path, nu_max) in enumerate(leaves):
            if nu_max is None:
                continue
            name = jax.tree_util.keystr(path)
            if name in rates:
                raise ValueError(f"state must hold one nu_max for each leaf, got two for {name!r}.")
            dtype = compute_dtype(nu_max.dtype)
            base = root(nu_max.astype(dtype), root_eps)
            factor = factors[i] if factors.ndim else factors
            rates[name] = divide_by_power(jnp.full_like(base, alpha * factor), base, p_now, up_to_one=True)
    if not rates:
        raise ValueError("state must hold nu_max, as the states of padam and optax.amsgrad do, got none.")
    return rates


def summarize(
    state: optax.OptState,
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    p: optax.ScalarOrSchedule | None = None,
    eps: jax.typing.ArrayLike | None = None,
    reference_p: jax.typing.ArrayLike | None = None,
    quantiles: Sequence[float] = QUANTILES,
    threshold: jax.typing.ArrayLike = 1e-4,
) -> Summary:
    """Quantiles of the effective learning rates, and the share of coordinates whose rate is below a threshold.

    It sorts the rates twice, by leaf and all together. Call it once an epoch, compiled: `jax.jit(summarize)` with the
    schedule bound by `functools.partial`. With `quantiles=()` it sorts nothing.

    Args:
      state, learning_rate, p, eps, reference_p: As for :func:`padam_optax.diagnostics.effective_learning_rates`.
      quantiles: The quantiles to compute, in [0, 1], interpolated linearly; by default the extremes, 5%, the quartiles
        and 95%.
      threshold: A coordinate with a smaller rate counts as having all but stopped.

    Returns:
      A :class:`padam_optax.diagnostics.Summary`.

    Raises:
      ValueError: As :func:`padam_optax.diagnostics.effective_learning_rates`, and if a quantile is outside [0, 1] or
        every leaf is empty.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> from padam_optax import diagnostics
      >>> optimizer = padam_optax.padam(0.1, b2=0.75, p=1/4)
      >>> params = {'w': jnp.array([2., 8., 32.]), 'b': jnp.array([128.])}
      >>> _, state = optimizer.update(params, optimizer.init(params))
      >>> summary = diagnostics.summarize(state, 0.1, p=1/4, quantiles=(0, 0.5, 1), threshold=0.03)
      >>> print(*(f'{x:.4f}' for x in summary.quantiles), summary.share_below)
      0.0125 0.0375 0.1000 0.5
      >>> print(*(f'{x:.4f}' for x in summary.leaf_quantiles["['w']"]))
      0.0250 0.0500 0.1000

    References:
      Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.diagnostics.measure`
    """
    _check_quantiles(quantiles)
    rates = {
        name: jnp.ravel(leaf)
        for name, leaf in effective_learning_rates(state, learning_rate, p=p, eps=eps, reference_p=reference_p).items()
        if leaf.size
    }
    if not rates:
        raise ValueError("state must hold nu_max of at least one coordinate, got empty leaves only.")
    dtype = common_dtype(*(leaf.dtype for leaf in rates.values()))
    everything = jnp.concatenate([leaf.astype(dtype) for leaf in rates.values()])

    def quantiles_of(leaf: jax.Array) -> jax.Array:
        if not len(quantiles):
            return jnp.zeros([0], leaf.dtype)
        return jnp.quantile(leaf, jnp.asarray(quantiles, leaf.dtype))

    def share_of(leaf: jax.Array) -> jax.Array:
        return jnp.mean(leaf < jnp.asarray(threshold, leaf.dtype), dtype=jnp.float32)

    return Summary(
        quantiles=quantiles_of(everything),
        share_below=share_of(everything),
        leaf_quantiles={name: quantiles_of(leaf) for name, leaf in rates.items()},
        leaf_share_below={name: share_of(leaf) for name, leaf in rates.items()},
    )


def median_root(
    state: optax.OptState,
    leaves: Callable[[str], bool] = lambda name: True,
    *,
    eps: jax.typing.ArrayLike | None = None,
    b2: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""The median, over the coordinates, of the root by which Adam or AMSGrad divides.

    .. math::

      \operatorname{median}_i \left(\sqrt{\hat{v}_{t,i}} + \varepsilon\right)

    Pass it as `root` to :func:`padam_optax.convert_learning_rate`. Use that function if you have a state, of your AdamW
    run for instance, and need the rate as a number before the new run begins. The argument `reference_p` of
    :func:`padam_optax.padam` needs no state: the new run measures a root in its own first steps, the geometric mean
    over the coordinates that have moved.

    Args:
      state: Any tree that holds states with `nu_max`, as for :func:`padam_optax.diagnostics.effective_learning_rates`,
        or with the `nu` of :func:`optax.adam`, :func:`optax.adamw`, nadam, radam, yogi, :func:`optax.rmsprop` without
        `centered`, or :func:`padam_optax.scale_by_partial_rms`. A state of adamax has the same type, but its `nu` is no
        square and would be misread.
      leaves: Takes a leaf's name and says whether its coordinates count, for instance those of one group of a
        partition.
      eps: Added to the root; by default the injected one, or 1e-8, the default of Padam and Adam. RMSProp adds its own
        eps under the root, which makes a difference where roots are below 1e-4.
      b2: Decay rate of `nu`, whose bias Adam corrects before it divides; by default the injected one, or 0.999, Adam's
        default. It matters in the first :math:`1/(1-b_2)` updates. `nu_max` is not corrected, as in Algorithm 1, and
        neither is the `nu` of an RMSProp without bias correction.

    Returns:
      A scalar, float32 at least. The median of a maximum only grows, and grows little after the first epochs. It is 0
      if eps is 0 and most coordinates have not moved; then choose `leaves`.

    Raises:
      ValueError: If no state has `nu_max` or `nu`, two have it for one leaf, no coordinate counts, eps or b2 is
        injected more than once, or a Python number eps is negative or not finite, or b2 outside [0, 1).

    Examples:
      >>> import jax.numpy as jnp, optax, padam_optax
      >>> from padam_optax import diagnostics
      >>> optimizer = padam_optax.padam(0.1, b2=0.75)
      >>> params = {'w': jnp.array([2., 8., 32.])}
      >>> _, state = optimizer.update(params, optimizer.init(params))  # nu_max is 1, 16, 256
      >>> print(f'{diagnostics.median_root(state):.4f}')
      4.0000

      The rate at p = 1/8 that corresponds to AdamW's 1e-3, from AdamW's state:

      >>> optimizer = optax.adamw(1e-3)
      >>> _, state = optimizer.update(params, optimizer.init(params), params)
      >>> root = diagnostics.median_root(state)
      >>> print(f'{root:.2f} {padam_optax.convert_learning_rate(1e-3, 1/2, 1/8, root):.6f}')
      8.00 0.000210

    References:
      Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.convert_learning_rate`
    """
    root_eps = _given_or_injected("eps", eps, state, default=1e-8)
    decay = _given_or_injected("b2", b2, state, default=0.999)
    check_non_negative("eps", root_eps)
    check_decay("b2", decay)
    roots: dict[str, jax.Array] = {}
    for path, square in _squares(state, decay):
        name = jax.tree_util.keystr(path)
        if name in roots:
            raise ValueError(f"state must hold one nu_max or nu for each leaf, got two for {name!r}.")
        roots[name] = jnp.ravel(root(square, root_eps))
    if not roots:
        raise ValueError(
            "state must hold nu_max, as the states of padam and optax.amsgrad do, or nu, as the states of optax.adamw"
            " and optax.rmsprop do, got none."
        )
    counted = [leaf for name, leaf in roots.items() if leaves(name) and leaf.size]
    if not counted:
        raise ValueError("state must hold nu_max or nu of at least one coordinate that leaves selects, got none.")
    dtype = common_dtype(*(leaf.dtype for leaf in counted))
    return jnp.median(jnp.concatenate([leaf.astype(dtype) for leaf in counted]))


class MeasureState(NamedTuple):
    """State of `measure`: a second moment and its maximum, beside the optimizer's own.

    Attributes:
      count: Updates seen so far, int32 scalar.
      nu: Second moment, real, shaped like the parameters, in float32 at least.
      nu_max: Elementwise maximum of every `nu` so far, as `nu`.
    """

    count: jax.Array
    nu: optax.Updates
    nu_max: optax.Updates


def measure(
    learning_rate: optax.ScalarOrSchedule,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    quantiles: Sequence[float] = QUANTILES,
    threshold: jax.typing.ArrayLike = 1e-4,
) -> optax.GradientTransformationExtraArgs:
    """Makes a measure for :func:`optax.monitor` that summarizes the effective learning rates.

    Put the monitor directly before the transformation that it describes. A measure sees the updates, but not the other
    states of a chain. This one therefore keeps its own second moment and maximum, each the size of the parameters, and
    summarizes at every update. If that costs too much, call :func:`padam_optax.diagnostics.summarize` on the
    optimizer's state once an epoch instead.

    Args:
      learning_rate: The number or schedule that the chain ends with; a schedule is called with the update count.
      b2, eps, p: The arguments of the transformation that follows.
      quantiles, threshold: As for :func:`padam_optax.diagnostics.summarize`; with `quantiles=()` nothing is sorted.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs` whose `update` returns a
      :class:`padam_optax.diagnostics.Summary` in the place of updates.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_amsgrad` and :func:`padam_optax.diagnostics.summarize`.

    Examples:
      >>> import jax.numpy as jnp, optax, padam_optax
      >>> from padam_optax import diagnostics
      >>> optimizer = optax.chain(
      ...     optax.monitor({'rates': diagnostics.measure(0.1, b2=0.75, p=1/4, threshold=0.03)}),
      ...     padam_optax.padam(0.1, b2=0.75, p=1/4))
      >>> params = jnp.array([2., 8., 32.])
      >>> _, state = optimizer.update(params, optimizer.init(params))
      >>> print(f"{optax.tree.get(state, 'rates').share_below:.4f}")
      0.3333

    References:
      Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.diagnostics.summarize`, :func:`optax.monitor`
    """
    check_decay("b2", b2)
    check_non_negative("eps", eps)
    check_p(p, highest=1)
    _check_quantiles(quantiles)

    def step(
        now: Now, gradient: jax.Array, param: jax.Array | None, nu: jax.Array, nu_max: jax.Array
    ) -> tuple[jax.Array, ...]:
        del now, param
        new_nu = decay_squares(nu, widened(gradient, nu), b2)
        return gradient, new_nu, jnp.maximum(nu_max, new_nu)

    moments = elementwise(MeasureState, {"nu": init_nu, "nu_max": init_nu}, step)

    def update_fn(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[Any, optax.OptState]:
        del params, extra_args
        _, new_state = moments.update(updates, state)
        summary = summarize(new_state, learning_rate, p=p, eps=eps, quantiles=quantiles, threshold=threshold)
        return summary, new_state

    return optax.GradientTransformationExtraArgs(moments.init, update_fn)


_PLAIN_NU = (optax.ScaleByRmsState, ScaleByPartialRmsState)


def _has_debiased_nu(node: Any) -> bool:
    """Whether `node` is a state of Adam, or of RMSProp with `bias_correction`, whose type optax does not export."""
    fields = getattr(node, "_fields", None)
    return isinstance(node, optax.ScaleByAdamState) or (fields == ("count", "nu") and not isinstance(node, _PLAIN_NU))


def _has_nu_max(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "nu_max") and hasattr(node, "count")


def _states_with_nu_max(state: Any) -> list[Any]:
    """The states, anywhere in `state`, that hold a maximum; a measure's only if it is `state` itself."""
    if isinstance(state, MeasureState):
        return [state]
    nodes = jax.tree.leaves(state, is_leaf=_has_nu_max)
    return [node for node in nodes if _has_nu_max(node) and not isinstance(node, MeasureState)]


def _squares(state: Any, decay: Any) -> Iterator[tuple[Any, jax.Array]]:
    """The path of each leaf and the second moment whose root divides its updates, in float32 at least."""

    def has_square(node: Any) -> bool:
        return _has_nu_max(node) or isinstance(node, _PLAIN_NU) or _has_debiased_nu(node)

    with_nu = [
        node for node in jax.tree.leaves(state, is_leaf=has_square) if has_square(node) and not _has_nu_max(node)
    ]
    for node in _states_with_nu_max(state):
        for path, nu_max in jax.tree_util.tree_leaves_with_path(node.nu_max):
            yield path, nu_max.astype(compute_dtype(nu_max.dtype))
    for node in with_nu:
        for path, nu in jax.tree_util.tree_leaves_with_path(node.nu):
            square = nu.astype(compute_dtype(nu.dtype))
            if _has_debiased_nu(node):
                square = debias(square, decay, jnp.maximum(node.count, 1).astype(square.dtype))
            yield path, square


def _given_or_injected(name: str, value: Any, state: Any, default: Any = None) -> Any:
    """`value`, or what `optax.inject_hyperparams` holds in `state` under that name, or `default`."""
    if value is not None:
        return value
    found = _injected(name, state)
    if len(found) > 1:
        raise ValueError(f"{name} must be given if state holds several injected values, got {len(found)}.")
    if not found and default is None:
        raise ValueError(f"{name} must be given if state holds no injected value of it, got None.")
    return found[0] if found else default


def _injected(name: str, state: Any) -> list[Any]:
    def is_injected(node: Any) -> bool:
        return isinstance(node, tuple) and hasattr(node, "hyperparams") and hasattr(node, "inner_state")

    found: list[Any] = []
    for node in jax.tree.leaves(state, is_leaf=is_injected):
        if is_injected(node):
            found += [node.hyperparams[name]] if name in node.hyperparams else []
            found += _injected(name, node.inner_state)
    return found


def _check_quantiles(quantiles: Sequence[float]) -> None:
    if not all(0 <= quantile <= 1 for quantile in quantiles):
        raise ValueError(f"quantiles must be in [0, 1], got {tuple(quantiles)}.")
