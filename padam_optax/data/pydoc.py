"""The help texts that every Python ships: text for a demonstration without a download.

The texts differ between versions of Python, so results on them are not comparable.
"""

import hashlib
import itertools
import re

import numpy as np

from padam_optax.data.ptb import END, TextData

LABEL = "pydoc-topics"
# One topic in this many goes to the validation text, and one to the test text.
_SPLIT = 10


def read_pydoc() -> TextData:
    """Reads the topics of `help()` as lower-case words and single signs, lines ending with "<eos>".

    One of every ten topics in alphabetical order goes to validation, and one to test. The vocabulary covers all three
    texts.
    """
    from pydoc_data.topics import topics

    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number, topic in enumerate(sorted(topics)):
        split = {_SPLIT // 2: "valid", _SPLIT - 1: "test"}.get(number % _SPLIT, "train")
        for line in topics[topic].lower().split("\n"):
            words = re.findall(r"\w+|[^\w\s]", line)
            parts[split] += [*words, END] if words else []
    words = dict.fromkeys(itertools.chain(*parts.values()))
    vocabulary = {word: number for number, word in enumerate(words)}
    numbers = {split: np.asarray([vocabulary[word] for word in words], np.int32) for split, words in parts.items()}
    digest = hashlib.sha256(" ".join(vocabulary).encode())
    for tokens in numbers.values():
        digest.update(tokens.tobytes())
    return TextData(numbers["train"], numbers["valid"], numbers["test"], tuple(vocabulary), LABEL, digest.hexdigest())
