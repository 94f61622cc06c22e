"""Tables, figures and the verdicts on the paper's claims, from recorded runs. Nothing here trains.

`results` has each run once and puts those together that belong together; `tables`, `variants`, `targets`, `figures`,
`claims` and `page` render that. What things are called, files among them, is said in `naming`, how several runs make
one number in `summary`, and how a table becomes Markdown or a terminal's in `grid`.
"""

import importlib.util

if importlib.util.find_spec("rich") is None or importlib.util.find_spec("matplotlib") is None:
    raise ImportError('Reports need Rich and Matplotlib: pip install "padam_optax[experiments]".')
