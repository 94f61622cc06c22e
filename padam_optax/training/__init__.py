"""Training of any task with any optimizer. Nothing here knows a model or a data set by name.

A task (`tasks`) and the batches of its data (`batches`) make a trainer (`loop`) with compiled functions. `epoch` calls
them from the host, for one run; `lanes` maps them over several runs at once. `checkpoint` saves states, `placement`
divides the arrays among devices, and `processes` joins several processes.
"""

import importlib.util

if importlib.util.find_spec("flax") is None:
    raise ImportError('Training needs Flax: pip install "padam_optax[experiments]".')
