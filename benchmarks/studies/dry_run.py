"""Rehearses one job of the queue on a CPU: its command, one epoch of all images, a network a sixteenth as wide.

    python benchmarks/studies/dry_run.py cifar10-resnet18-padam --data-dir DIR --data-label NAME --out FOLDER

The arguments go to `padam run`; `--epochs 1 --dtype bfloat16 --deadline 480` are the defaults. The record goes under
FOLDER. Do not use a folder of results, because the network is not the experiment's.
"""

import functools
import sys

from padam_optax.__main__ import main
from padam_optax.models.resnet import ResNet
from padam_optax.runner import programs

OPTIONS = {"--epochs": "1", "--dtype": "bfloat16", "--deadline": "480"}

if __name__ == "__main__":
    if "--out" not in sys.argv:
        sys.exit("Name a folder for the record with --out.")
    programs.MODELS["resnet18"] = functools.partial(ResNet, (4, 8, 16, 32), (2, 2, 2, 2))
    given = sys.argv[1:]
    for name, value in OPTIONS.items():
        given += [] if name in given else [name, value]
    sys.argv = ["padam", "run", *given]
    main()
