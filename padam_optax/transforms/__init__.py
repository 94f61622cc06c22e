"""The core: Optax transformations, one method a file. They need jax and optax only.

Users find the transformations in `padam_optax` itself. Other parts of the package, and transformations written
elsewhere, import the shared helpers from this file and from no private module.
"""

from padam_optax.transforms._averages import debias, decay_squares, init_nu
from padam_optax.transforms._checks import check_decay, check_non_negative, check_p
from padam_optax.transforms._dtypes import common_dtype, compute_dtype, widened
from padam_optax.transforms._elementwise import Now, elementwise, value_at
from padam_optax.transforms._powers import divide_by_power, root
from padam_optax.transforms._rounding import hash_bits

__all__ = [
    "Now",
    "check_decay",
    "check_non_negative",
    "check_p",
    "common_dtype",
    "compute_dtype",
    "debias",
    "decay_squares",
    "divide_by_power",
    "elementwise",
    "hash_bits",
    "init_nu",
    "root",
    "value_at",
    "widened",
]
