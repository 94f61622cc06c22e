"""The reader of texts, on small ones and on Penn Treebank where it is at hand."""

import tarfile

import numpy as np
import pytest

from padam_optax.data.images import DataError
from padam_optax.data.ptb import columns, read_text, restrict_text


def write(folder, prefix: str = "", **texts: str):
    for split, text in {"train": "a b a\nc <unk>\n", "valid": "a c\n", "test": "b\n", **texts}.items():
        (folder / f"{prefix}{split}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("prefix", ["", "ptb."])
def test_words_are_numbered_as_they_appear(tmp_path, prefix):
    data = read_text(write(tmp_path, prefix), "small")
    assert data.vocabulary == ("a", "b", "<eos>", "c", "<unk>")
    assert data.train.tolist() == [0, 1, 0, 2, 3, 4, 2]
    assert data.valid.tolist() == [0, 3, 2]
    assert data.test.tolist() == [1, 2]
    assert data.train.dtype == np.int32
    assert data.label == "small"


def test_unknown_words(tmp_path):
    write(tmp_path, test="b d\n")
    with pytest.raises(DataError, match=r"test\.txt has the word 'd'"):
        read_text(tmp_path, "small")
    assert read_text(tmp_path, "small", unknown="replace").test.tolist() == [1, 4, 2]


def test_without_a_label_it_must_be_penn_treebank(tmp_path):
    with pytest.raises(DataError, match=r"train 7, valid 3, test 2 and 5 words,.*929,589.*10,000.*--data-label"):
        read_text(write(tmp_path))
    with pytest.raises(DataError, match="'ptb' is kept"):
        read_text(tmp_path, "ptb")


@pytest.mark.parametrize("sign", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_what_ends_no_line(tmp_path, sign):
    """These stand between words, as in a file that Python reads line by line."""
    data = read_text(write(tmp_path, train=f"a{sign}b {sign} c\n<unk>\n"), "small")
    assert data.vocabulary == ("a", "b", "c", "<eos>", "<unk>")
    assert data.train.tolist() == [0, 1, 2, 3, 4, 3]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_ends_a_line(tmp_path, end):
    texts = {"train": "a b\n\nc", "valid": "c\n", "test": "b"}
    write(tmp_path, **texts)
    for split, text in texts.items():
        # A byte-order mark in front, as some editors leave it.
        (tmp_path / f"{split}.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", end).encode())
    data = read_text(tmp_path, "small")
    assert data.vocabulary == ("a", "b", "<eos>", "c")
    assert data.train.tolist() == [0, 1, 2, 2, 3, 2]
    assert data.valid.tolist() == [3, 2]


def test_missing_empty_and_unreadable_files(tmp_path):
    with pytest.raises(DataError, match=r"neither train\.txt nor ptb\.train\.txt"):
        read_text(tmp_path, "small")
    write(tmp_path, valid="")
    with pytest.raises(DataError, match=r"valid\.txt is empty"):
        read_text(tmp_path, "small")
    (tmp_path / "valid.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"valid\.txt is not UTF-8"):
        read_text(tmp_path, "small")


def test_restricted_to_frequent_words(tmp_path):
    """Of "a b a <eos> c": a twice, then b before <eos>, which appeared later; the rest is unknown."""
    data = restrict_text(read_text(write(tmp_path), "small"), 5, 3)
    assert data.vocabulary == ("a", "b", "<unk>")
    assert data.train.tolist() == [0, 1, 0, 2, 2]
    assert data.valid.tolist() == [0, 2, 2]
    assert data.test.tolist() == [1, 2]


def test_restriction_wants_what_is_there(tmp_path):
    data = read_text(write(tmp_path), "small")
    with pytest.raises(DataError, match="7 training tokens; 8 were"):
        restrict_text(data, 8, None)
    with pytest.raises(DataError, match="5 words; 6 were"):
        restrict_text(data, None, 6)
    assert restrict_text(data, None, None).train is data.train


def test_columns_are_contiguous_text():
    cut = columns(np.arange(11), 3)
    assert cut.T.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    with pytest.raises(DataError, match="5 tokens are too few for a batch of 3 rows"):
        columns(np.arange(5), 3)


def test_penn_treebank(tmp_path, shared_data):
    with tarfile.open(shared_data("ptb.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    (file,) = tmp_path.rglob("ptb.train.txt")
    data = read_text(file.parent)
    assert (len(data.train), len(data.valid), len(data.test)) == (929_589, 73_760, 82_430)
    assert len(data.vocabulary) == 10_000
    assert data.label == "ptb"
    assert [data.vocabulary[number] for number in data.train[:3]] == ["aer", "banknote", "berlitz"]
    small = restrict_text(data, 200_000, 2_000)
    assert len(small.vocabulary) == 2_000
    assert small.train.max() == 1_999
