"""Training of any task with any optimizer. Nothing here knows a model or a data set by name."""

import importlib.util

if importlib.util.find_spec("flax") is None:
    raise ImportError('Training needs Flax: pip install "padam_optax[experiments]".')
