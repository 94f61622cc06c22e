"""c_t of the three bias corrections, from their formulas."""

import matplotlib.pyplot as plt
import numpy as np

B1, B2 = 0.9, 0.999
step = np.unique(np.geomspace(1, 10_000, 400).round())
first, second = 1 - B1**step, 1 - B2**step

figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
axes.plot(step, np.ones_like(step), label='"none"', color="#0072B2")
axes.plot(step, np.sqrt(second) / first, label='"official"', color="#D55E00")
for p, style in ((1 / 16, ":"), (1 / 8, "-"), (1 / 4, "--")):
    axes.plot(step, second**p / first, style, label=f'"debiased", p = 1/{round(1 / p)}', color="#009E73")
axes.set(xscale="log", yscale="log", xlabel="Step t", ylabel="c_t", title="b1 = 0.9, b2 = 0.999")
axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend(frameon=False)
