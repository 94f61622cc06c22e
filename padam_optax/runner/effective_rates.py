"""Records effective learning rates with a run's metrics; `report.effective_rates` draws them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from padam_optax import diagnostics
from padam_optax.experiments.spec import Experiment
from padam_optax.training.loop import TrainState

# The best rate of each p on the recipe for images. Padam's are from the map of `benchmarks/studies/reference_p.py`.
# That of p = 0 is the best one of SGD at momentum .9 in its search, times 1/(1-b1): SGD's updates are larger by this.
MINI_RATES = {1 / 2: 1e-3, 1 / 4: 1e-1, 1 / 8: 1e-1, 0.0: 0.2371}


@functools.partial(jax.jit, static_argnames="quantiles")
def _summarize(state: Any, learning_rate: float, p: float, eps: float, threshold: float, quantiles: Any) -> Any:
    summary = diagnostics.summarize(state, learning_rate, p=p, eps=eps, threshold=threshold, quantiles=quantiles)
    return summary.quantiles, summary.share_below


def observer(experiment: Experiment, threshold: float = 1e-4) -> Callable[[TrainState], dict[str, Any]]:
    """Returns the `observe` argument of `run` that records the effective learning rates after each epoch.

    Args:
      experiment: An experiment with Padam or AMSGrad.
      threshold: Rate below which a coordinate counts as all but stopped.

    Returns:
      A function that maps the state after an epoch to the entry "effective_rates" of a record's line, over all
      coordinates at that epoch's learning rate: a dictionary of "quantiles" (from each of `diagnostics.QUANTILES`,
      written as text, to its value), "threshold" and "share_below".

    Raises:
      ValueError: If the experiment's optimizer has no v-hat.
    """
    if experiment.optimizer not in ("padam", "amsgrad"):
        raise ValueError(f"optimizer must be padam or amsgrad, which have effective rates; got {experiment.optimizer}.")
    settings = experiment.hyperparameters

    def observe(state: TrainState) -> dict[str, Any]:
        rate = experiment.learning_rate(int(state.epoch))
        quantiles, share = _summarize(
            state.opt_state, rate, settings.get("p", 0.5), settings["eps"], threshold, quantiles=diagnostics.QUANTILES
        )
        values = np.asarray(quantiles).tolist()
        return {
            "effective_rates": {
                "quantiles": {f"{name:g}": value for name, value in zip(diagnostics.QUANTILES, values, strict=True)},
                "threshold": threshold,
                "share_below": float(share),
            }
        }

    return observe
