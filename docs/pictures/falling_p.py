"""How far a coordinate goes as p falls from 1/2 to 0, by the size of its gradients."""

import matplotlib.pyplot as plt
import numpy as np

steps = np.arange(201)
p = 0.5 - 0.5 * steps / 200
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for size, color in ((0.01, "#0072B2"), (0.1, "#D55E00"), (1, "#009E73")):
    axes.semilogy(steps, size ** (1 - 2 * p), label=f"gradients of size {size:g}", color=color)
axes.set(xlabel="Step", ylabel="Update over the largest", title="How far a coordinate goes as p falls from 1/2 to 0")
axes.legend(frameon=False)
