"""Penn Treebank at word level in Mikolov's preparation, and other texts in the same three files."""

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Iterable
from typing import Literal

import numpy as np

from padam_optax.data import marker
from padam_optax.data.images import DataError
from padam_optax.paths import expanded

END = "<eos>"
UNKNOWN = "<unk>"

# The label of results on the complete files.
LABEL = "ptb"
# Tokens of each file, including one END a line, and the size of the vocabulary.
TOKENS = {"train": 929_589, "valid": 73_760, "test": 82_430}
VOCABULARY = 10_000


@dataclasses.dataclass(frozen=True)
class TextData:
    """Three texts as arrays of word numbers.

    Attributes:
      train: Text for training, (tokens,), int32, lines joined by END.
      valid: Text for choosing settings, in the same form.
      test: Text for results, in the same form.
      vocabulary: The words, by number.
      label: Name under which results are reported.
      sha256: Checksum of the three files' content.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    vocabulary: tuple[str, ...]
    label: str
    sha256: str


def read_text(
    data_dir: str | pathlib.Path, label: str = "", *, unknown: Literal["replace", "raise"] = "raise"
) -> TextData:
    """Reads `train.txt`, `valid.txt` and `test.txt`, or files of these names with `ptb.` in front.

    Words are numbered in the order of their first appearance in the training text, as in the public AWD-LSTM code. The
    texts are UTF-8, with or without a byte-order mark; a line ends at a line feed, a carriage return or both.

    Args:
      data_dir: The folder.
      label: Name of the data; without one, the files must be the complete Penn Treebank, which is called "ptb".
      unknown: What to do with a word of `valid` or `test` that is not in `train`: "replace" it by "<unk>", or "raise".

    Raises:
      DataError: If a file is missing, empty or altered since it was fetched, a word is unknown, or files without a
        label are not Penn Treebank; the message says what was found and what was expected.
    """
    folder = expanded(data_dir)
    found = marker.read(folder)
    if found is not None:
        found.verify(folder)
    texts, digest = {}, hashlib.sha256()
    for split in TOKENS:
        content = _find(folder, split).read_bytes()
        digest.update(content)
        texts[split] = _words(content, folder, split)
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(texts["train"]))}
    if unknown == "replace":
        vocabulary.setdefault(UNKNOWN, len(vocabulary))
    numbers = {split: _number(words, vocabulary, folder, split, unknown) for split, words in texts.items()}
    if not label:
        _check_complete(folder, numbers, vocabulary)
    elif marker.reserved_name(label) is not None:
        raise DataError(
            f"The label {label!r} is kept for the complete data set of that name; leave it out, or choose another one."
        )
    return TextData(
        numbers["train"],
        numbers["valid"],
        numbers["test"],
        tuple(vocabulary),
        label or LABEL,
        digest.hexdigest(),
    )


def restrict_text(data: TextData, train_tokens: int | None, vocabulary: int | None) -> TextData:
    """Keeps the first `train_tokens` training tokens, and the words that are most frequent in them.

    Args:
      data: What to restrict.
      train_tokens: How many training tokens to keep; all if None.
      vocabulary: Size of the vocabulary, "<unk>" included; all rarer words become "<unk>". None keeps all words.
        Equally frequent words keep the order of their numbers.

    Raises:
      DataError: If there are fewer tokens or words than asked for.
    """
    train = data.train
    if train_tokens is not None:
        if len(train) < train_tokens:
            raise DataError(f"{data.label} has {len(train):,} training tokens; {train_tokens:,} were asked for.")
        train = train[:train_tokens]
    if vocabulary is None:
        return dataclasses.replace(data, train=train)
    if len(data.vocabulary) < vocabulary:
        raise DataError(f"{data.label} has {len(data.vocabulary):,} words; {vocabulary:,} were asked for.")
    counts = np.bincount(train, minlength=len(data.vocabulary))
    unknown = data.vocabulary.index(UNKNOWN) if UNKNOWN in data.vocabulary else -1
    order = [number for number in np.argsort(-counts, kind="stable") if number != unknown][: vocabulary - 1]
    new_number = np.full(len(data.vocabulary), vocabulary - 1, np.int32)
    new_number[order] = np.arange(vocabulary - 1, dtype=np.int32)
    words = (*(data.vocabulary[number] for number in order), UNKNOWN)
    return dataclasses.replace(
        data, train=new_number[train], valid=new_number[data.valid], test=new_number[data.test], vocabulary=words
    )


def columns(tokens: np.ndarray, rows: int) -> np.ndarray:
    """Cuts a text into `rows` pieces side by side, (tokens // rows, rows); leaves out the rest.

    Raises:
      DataError: If a row has less than one step of input and target.
    """
    length = len(tokens) // rows
    if length < 2:
        raise DataError(f"{len(tokens)} tokens are too few for a batch of {rows} rows.")
    return np.ascontiguousarray(tokens[: length * rows].reshape(rows, length).T)


def _find(folder: pathlib.Path, split: str) -> pathlib.Path:
    for path in (folder / f"{split}.txt", folder / f"ptb.{split}.txt"):
        if path.is_file():
            return path
    raise DataError(f"{folder} has neither {split}.txt nor ptb.{split}.txt; train, valid and test are expected.")


def _words(content: bytes, folder: pathlib.Path, split: str) -> list[str]:
    # Lines end as in a text file. `splitlines` would also end them at form feeds and six other signs.
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=None)
    try:
        words = [word for line in lines for word in (*line.split(), END)]
    except UnicodeDecodeError as error:
        raise DataError(f"{_find(folder, split)} is not UTF-8 text: {error}.") from None
    if not words:
        raise DataError(f"{_find(folder, split)} is empty.")
    return words


def _number(
    words: Iterable[str], vocabulary: dict[str, int], folder: pathlib.Path, split: str, unknown: str
) -> np.ndarray:
    if unknown == "replace":
        other = vocabulary[UNKNOWN]
        return np.asarray([vocabulary.get(word, other) for word in words], np.int32)
    try:
        return np.asarray([vocabulary[word] for word in words], np.int32)
    except KeyError as error:
        raise DataError(
            f"{_find(folder, split)} has the word {error.args[0]!r}, which is not in the training text; map such words"
            f" to {UNKNOWN} if they are meant as unknown."
        ) from None


def _check_complete(folder: pathlib.Path, numbers: dict[str, np.ndarray], vocabulary: dict[str, int]) -> None:
    found = {split: len(tokens) for split, tokens in numbers.items()}
    if found != TOKENS or len(vocabulary) != VOCABULARY:
        raise DataError(
            f"{folder} is not the complete Penn Treebank: tokens {_listed(found)} and {len(vocabulary):,} words,"
            f" expected {_listed(TOKENS)} and {VOCABULARY:,}. Name other texts with --data-label."
        )


def _listed(tokens: dict[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in tokens.items())
