"""What a budget of trials buys."""

from padam_optax.report.sweeps import Sweep, SweepPoint


def best_trial(sweep: Sweep) -> SweepPoint | None:
    return sweep.points[0]
