"""Tables, figures and the verdicts on the paper's claims, from recorded runs. Nothing here trains.

`results` groups the runs; `tables`, `variants`, `targets`, `figures`, `claims` and `page` render the groups. `naming`
names things, files among them; `summary` turns several runs into one number; `grid` turns a table into Markdown or a
terminal's form.
"""

import importlib.util

if importlib.util.find_spec("rich") is None or importlib.util.find_spec("matplotlib") is None:
    raise ImportError('Reports need Rich and Matplotlib: pip install "padam_optax[experiments]".')
