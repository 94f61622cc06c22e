"""Converts the learning rate for one p into the rate for another."""

from typing import Any

import jax
import optax

from padam_optax.transforms import _checks
from padam_optax.transforms._elementwise import value_at
from padam_optax.transforms._reference import convert


def convert_learning_rate(
    learning_rate: optax.ScalarOrSchedule,
    p: optax.ScalarOrSchedule,
    new_p: optax.ScalarOrSchedule,
    root: optax.ScalarOrSchedule,
) -> Any:
    r"""The learning rate at `new_p` whose effective rate is that of `learning_rate` at `p`.

    .. math::

      \alpha' = \alpha \, r^{2 (p' - p)}

    An update scales as :math:`g^{1-2p}`, so a change of p alone changes how far a step goes. A coordinate with
    :math:`\sqrt{\hat{v}} + \varepsilon = r` keeps its effective rate :math:`\alpha / r^{2p}`. If r is the median
    (:func:`padam_optax.diagnostics.median_root`), the median effective rate of all coordinates stays the same, because
    the power is monotone. The larger p is, the more the other rates spread.

    Args:
      learning_rate: :math:`\alpha`, a number, a scalar array or a schedule of the update count.
      p: The partially adaptive parameter that this rate was chosen for, in [0, 1]; a number, an array or a schedule.
      new_p: The partially adaptive parameter to use instead, in the same form.
      root: r, above 0, in the same form; for example measured by a short run. Where it is below 1, a large p needs a
        small rate.

    Returns:
      :math:`\alpha'`: a schedule if any argument is one, an array if any is one, else a float.

    Raises:
      ValueError: If a Python number p or `new_p` is outside [0, 1], or `root` is not positive and finite.

    Examples:
      >>> import optax, padam_optax
      >>> print(f'{padam_optax.convert_learning_rate(0.1, 1/8, 1/2, root=1e-3):.2g}')
      0.00056

      From AMSGrad to momentum SGD within one training, at an unchanged median effective rate:

      >>> p = optax.linear_schedule(1/2, 0., 1000)
      >>> optimizer = padam_optax.padam(padam_optax.convert_learning_rate(0.1, 1/8, p, root=1e-3), p=p)

    References:
      Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.diagnostics.median_root`
    """
    _checks.check_p(p, highest=1)
    _checks.check_p(new_p, highest=1)
    _checks.check_positive("root", root)
    arguments = (learning_rate, p, new_p, root)
    if not any(map(callable, arguments)):
        return convert(*arguments)

    def converted(count: jax.Array) -> jax.Array:
        return convert(*(value_at(argument, count) for argument in arguments))

    return converted
