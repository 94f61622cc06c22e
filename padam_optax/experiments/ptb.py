"""Language models: the paper's (Table 3, Figure 3 c and f), and ours for a CPU core.

`ptb-lstm2-<optimizer>` and `ptb-lstm3-<optimizer>` are the cells of Table 3. That its "LSTM" is AWD-LSTM is inferred
(see `models.awd_lstm`); regularisation and settings are those of its public code for Penn Treebank, with batch 20, over
200 epochs.

    padam run ptb-lstm2-padam --data-dir DIR

`ptb-mini-<optimizer>` is our recipe for a CPU core, not the paper's: the first 100,000 training tokens, the 2,000 words
most frequent in them, sizes of 128, windows of 35 steps, 6 epochs, the whole validation and test texts. A run takes a
minute on one core. Settings are chosen on the validation text as `tuning` says; `ptb-mini-untuned-<optimizer>` is the
same before any choice. The records of the search and of the runs are in benchmarks/records.

`ptb-transformer-mini-<optimizer>` trains a small transformer on the same text for 8 epochs, its settings chosen in the
same way, and `ptb-transformer-mini-untuned-<optimizer>` is that before any choice: those of the two-layer LSTM.

    padam run ptb-mini-padam --data-dir DIR
"""

import itertools
from collections.abc import Iterator
from typing import Any

from padam_optax.experiments import paper, tuning
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.spec import Experiment, LanguageModelling

_SECOND_MOMENT = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
# AWD-LSTM's.
_DECAY = {"weight_decay": 1.2e-6}


def _settings(sgdm: float, yogi: float, adabound_final: float, padam: float, p: float) -> dict[str, dict[str, float]]:
    """Section 5, "Regarding the LSTM experiments": what the number of layers changes, and what it does not."""
    adaptive = {"learning_rate": 1e-3, **_SECOND_MOMENT}
    return {
        "sgdm": {"learning_rate": sgdm, "momentum": 0.9, **_DECAY},
        "adam": {**adaptive, **_DECAY},
        "amsgrad": {**adaptive, **_DECAY},
        "adamw": {**adaptive, "normalized_weight_decay": 4e-4},
        "yogi": {**adaptive, "learning_rate": yogi, "eps": 1e-3, **_DECAY},
        "adabound": {**adaptive, "final_learning_rate": adabound_final, "gamma": 1e-3, **_DECAY},
        "padam": {**adaptive, "learning_rate": padam, "p": p, **_DECAY},
        "padam-reference": {**adaptive, "p": 0.125, "reference_p": 0.5, **_DECAY},
    }


PAPER_SETTINGS = {
    2: _settings(sgdm=1.0, yogi=0.01, adabound_final=10.0, padam=0.01, p=0.4),
    3: _settings(sgdm=10.0, yogi=0.1, adabound_final=100.0, padam=1.0, p=0.2),
}


# Sizes and rates of dropout of the public code for Penn Treebank. Dropped are whole words of the embedding, the
# embedded input, the output of all layers but the last, that of the last, and entries of the hidden-to-hidden matrices.
AWD_LSTM = {
    "embedding": 400,
    "hidden": 1150,
    "word_dropout": 0.1,
    "input_dropout": 0.4,
    "between_dropout": 0.25,
    "output_dropout": 0.4,
    "weight_dropout": 0.5,
}


def _table_3() -> Iterator[Experiment]:
    for layers, optimizer in itertools.product(PAPER_SETTINGS, PAPER_METHODS):
        yield Experiment(
            name=f"ptb-lstm{layers}-{optimizer}",
            suite=f"ptb-lstm{layers}",
            model="awd-lstm",
            dataset="ptb",
            optimizer=optimizer,
            hyperparameters=PAPER_SETTINGS[layers][optimizer],
            epochs=200,
            milestones=(100, 150),
            batch_size=20,
            bias_correction="official",
            seeds=(0, 1, 2),
            task=LanguageModelling(),
            model_options={"layers": layers, **AWD_LSTM},
            assumed=("task", "model_options", *(() if optimizer == "adamw" else ("weight_decay",))),
            paper=paper.results(f"ptb-lstm{layers}", optimizer),
        )


TABLE_3 = tuple(_table_3())

# Chosen on the validation text by the trials of `tuning`; everything else is as for the paper's two layers.
MINI_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 4.217, "momentum": 0.9},
    "adam": {"learning_rate": 0.0225, "b2": 0.999},
    "amsgrad": {"learning_rate": 0.01265, "b2": 0.99},
    "adamw": {"learning_rate": 0.0225, "normalized_weight_decay": 4e-4},
    "yogi": {"learning_rate": 0.225, "b2": 0.999},
    "adabound": {"learning_rate": 0.0225, "final_learning_rate": 10.0},
    "padam": {"learning_rate": 12.65, "p": 0.125},
    "padam-reference": {"learning_rate": 0.007114, "p": 0.25},
}

_MINI: dict[str, Any] = {
    "model": "awd-lstm",
    "dataset": "ptb",
    "epochs": 6,
    "milestones": (4,),
    "batch_size": 20,
    "train_examples": 100_000,
    "task": LanguageModelling(vocabulary=2_000, window=35, random_window=False, eval_columns=(10, 10)),
    "model_options": {"layers": 2, **AWD_LSTM, "embedding": 128, "hidden": 128},
}
MINI = tuning.recipe("ptb-mini", PAPER_SETTINGS[2], MINI_CHOICES, **_MINI)
MINI_UNTUNED = tuning.recipe("ptb-mini-untuned", PAPER_SETTINGS[2], {}, **_MINI)

# As `MINI_CHOICES`.
TRANSFORMER_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.4217, "momentum": 0.8},
    "adam": {"learning_rate": 0.00225, "b2": 0.999},
    "amsgrad": {"learning_rate": 0.0007114, "b2": 0.999},
    "adamw": {"learning_rate": 0.001265, "normalized_weight_decay": 0.004},
    "yogi": {"learning_rate": 0.004001, "b2": 0.99},
    "adabound": {"learning_rate": 0.007114, "final_learning_rate": 100.0},
    "padam": {"learning_rate": 0.1265, "p": 0.25},
    "padam-reference": {"learning_rate": 0.001265, "p": 0.25},
}

_TRANSFORMER: dict[str, Any] = {
    "model": "transformer",
    "dataset": "ptb",
    "epochs": 8,
    "milestones": (4, 6),
    "batch_size": 20,
    "train_examples": 100_000,
    "task": LanguageModelling(
        vocabulary=2_000,
        window=70,
        random_window=False,
        eval_columns=(10, 10),
        activation_regularization=0.0,
        temporal_regularization=0.0,
        gradient_clip=1.0,
    ),
    "model_options": {"features": 64, "heads": 4, "layers": 2, "context": 70, "dropout": 0.1},
}
TRANSFORMER = tuning.recipe("ptb-transformer-mini", PAPER_SETTINGS[2], TRANSFORMER_CHOICES, **_TRANSFORMER)
TRANSFORMER_UNTUNED = tuning.recipe("ptb-transformer-mini-untuned", PAPER_SETTINGS[2], {}, **_TRANSFORMER)

EXPERIMENTS = (*TABLE_3, *MINI, *MINI_UNTUNED, *TRANSFORMER, *TRANSFORMER_UNTUNED)
