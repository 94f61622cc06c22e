"""Tables, figures and the verdicts on the paper's claims, from recorded runs. Nothing here trains."""

import importlib.util

if importlib.util.find_spec("rich") is None or importlib.util.find_spec("matplotlib") is None:
    raise ImportError('Reports need Rich and Matplotlib: pip install "padam_optax[experiments]".')
