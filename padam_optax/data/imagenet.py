"""ImageNet in its folder form, `<root>/{train,val}/<class>/*.JPEG`, through Grain.

A batch is a function of its number: shuffling, crops and flips depend on the seed and the position only, so that one
number is the position in the data, and the batches do not depend on how many processes decode them.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from padam_optax.data.images import DataError
from padam_optax.data.marker import RESERVED_LABELS, reserved_name
from padam_optax.data.views import eval_view, train_view
from padam_optax.paths import expanded

if TYPE_CHECKING:
    import grain

SUFFIXES = (".jpeg", ".jpg")

# Files that operating systems add, in lower case; hidden files are left out anyway.
_NOT_DATA = ("thumbs.db", "desktop.ini")

Split = Literal["train", "val"]
# Path and label of an image; a batch or an example in the pipeline.
_File = tuple[pathlib.Path, np.int32]
_Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The images of a split.

    Attributes:
      names: (N,), bytes: file names, by class and sorted in each.
      labels: (N,), int32: index of the class whose folder holds the file.
    """

    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The list of files of a data set in folder form, without their content.

    Attributes:
      root: The folder that holds `train` and `val`.
      classes: Names of the classes' folders, sorted; a label is an index into them.
      train: Training images.
      val: Evaluation images.
      label: The name under which results on them are reported.
      sha256: Checksum of the sorted paths and sizes of all files.
    """

    root: pathlib.Path
    classes: tuple[str, ...]
    train: ImageFiles
    val: ImageFiles
    label: str
    sha256: str

    @property
    def test(self) -> ImageFiles:
        """`val`, on which results are measured."""
        return self.val

    def path(self, split: Split, index: int) -> pathlib.Path:
        """The file of an image."""
        files = self.train if split == "train" else self.val
        return self.root / split / self.classes[files.labels[index]] / os.fsdecode(files.names[index])


def scan_image_folder(root: str | pathlib.Path, label: str) -> ImageFolder:
    """Lists the images below `root` and checks that the tree has the expected form. Opens no image.

    Args:
      root: Folder with `train/<class>/*.JPEG` and `val/<class>/*.JPEG`; hidden files, Thumbs.db and
        desktop.ini are ignored.
      label: The name under which results on these files are reported; names kept for checked downloads are refused.

    Raises:
      DataError: If the label is missing or reserved, a folder is missing or empty, the splits have different classes,
        or there is anything but folders of non-empty JPEG files; the message says what was expected.
    """
    if not label or reserved_name(label) is not None:
        raise DataError(
            f"Name the data with --data-label (for example imagenet), got {label!r}: results are reported under this"
            f" name. The names {', '.join(RESERVED_LABELS)} are kept for checked downloads."
        )
    root = expanded(root).absolute()
    classes = {split: _class_names(root / split) for split in ("train", "val")}
    if classes["train"] != classes["val"]:
        only = {
            split: sorted(set(names) - set(classes["val" if split == "train" else "train"]))
            for split, names in classes.items()
        }
        split, name = next((split, names[0]) for split, names in only.items() if names)
        raise DataError(
            f"{root / split / name} has no counterpart in the other split; expected the same classes in"
            f" {root / 'train'} ({len(classes['train'])}) and {root / 'val'} ({len(classes['val'])})."
        )
    digest = hashlib.sha256()
    train, val = (_list_split(root / split, names, digest.update) for split, names in classes.items())
    return ImageFolder(root, tuple(classes["train"]), train, val, label, digest.hexdigest())


def _class_names(folder: pathlib.Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist. Expected the folders train and val with a folder for each class.")
    names: list[str] = []
    for entry in _entries(folder):
        if not _is(entry.is_dir):
            raise DataError(f"{entry.path} is not a folder; expected only a folder for each class in {folder}.")
        names.append(entry.name)
    if not names:
        raise DataError(f"{folder} is empty; expected a folder for each class.")
    return sorted(names)


def _entries(folder: pathlib.Path) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder, without those that operating systems add."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in _NOT_DATA:
                yield entry


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of this kind; False for a link that leads to itself."""
    try:
        return kind()
    except OSError:
        return False


def _list_split(folder: pathlib.Path, classes: list[str], add: Callable[[bytes], None]) -> ImageFiles:
    """The files of a split; calls `add` with the path and size of each for the checksum."""
    names: list[bytes] = []
    counts: list[int] = []
    for name in classes:
        sizes = _list_class(folder / name)
        for file, size in sorted(sizes.items()):
            add(b"%s/%s/%s %d\n" % (os.fsencode(folder.name), os.fsencode(name), file, size))
            names.append(file)
        counts.append(len(sizes))
    return ImageFiles(np.array(names), np.repeat(np.arange(len(classes), dtype=np.int32), counts))


def _list_class(folder: pathlib.Path) -> dict[bytes, int]:
    """Sizes of the images in a class folder, by their names."""
    sizes: dict[bytes, int] = {}
    for entry in _entries(folder):
        if not _is(entry.is_file) or not entry.name.lower().endswith(SUFFIXES):
            raise DataError(f"{entry.path} is not a JPEG file; expected only files named *.JPEG in {folder}.")
        size = entry.stat().st_size
        if size == 0:
            raise DataError(f"{entry.path} is empty; expected a JPEG image.")
        sizes[os.fsencode(entry.name)] = size
    if not sizes:
        raise DataError(f"{folder} is empty; expected at least one file *.JPEG for each class.")
    return sizes


def train_batches(
    images: ImageFolder,
    *,
    batch_size: int,
    seed: int,
    size: int = 224,
    drop_remainder: bool = True,
    shard: "grain.sharding.ShardOptions | None" = None,
    worker_count: int = 0,
) -> "ImageBatches":
    """Endless batches of random resized crops, half of them mirrored, every epoch in another order.

    A crop has 0.08 to 1 times the image's area and 3/4 to 4/3 as its ratio of sides, as in Inception's training, and is
    resized to a square (bilinear). The content of a batch over all processes does not depend on their number.

    Args:
      images: Result of `scan_image_folder`.
      batch_size: Images in a batch of this process.
      seed: Seed of the order, the crops and the flips; 0 to 2^32 - 1.
      size: Height and width of the crops in pixels.
      drop_remainder: Whether to leave out an epoch's last images if they do not fill a batch; otherwise they make a
        smaller batch.
      shard: This process's part of the data, of the same size for all; by default JAX's process index and count.
      worker_count: Processes that decode; 0 decodes in threads of this process. They start by `multiprocessing`'s
        "spawn": a script needs `if __name__ == "__main__":`. Shared memory must hold `3 * worker_count` batches.

    Returns:
      An iterator of dictionaries with `images` (batch_size, size, size, 3), uint8, and `labels` (batch_size,), int32.

    Raises:
      DataError: If the images do not fill a batch; during iteration, if a file is not a readable image.
    """
    import grain

    shard = shard or grain.sharding.ShardByJaxProcess()
    share = len(images.train) // shard.shard_count
    if share < (batch_size if drop_remainder else 1):
        raise DataError(
            f"{images.root / 'train'} has {len(images.train)} images, which do not fill a batch of {batch_size}"
            f" in each of {shard.shard_count} process(es)."
        )
    files = _Files(images, "train", range(len(images.train)))
    example = functools.partial(_train_example, size=size)
    dataset = grain.MapDataset.source(files).seed(seed).shuffle().random_map(example)
    # Sharded after the random transformations: these use positions over all processes, so processes draw different
    # crops.
    dataset = dataset.slice(slice(shard.shard_index, share * shard.shard_count, shard.shard_count))
    dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    identity = {
        "sha256": images.sha256,
        "seed": seed,
        "size": size,
        "global_batch_size": batch_size * shard.shard_count,
        "batches_per_epoch": len(dataset),
    }
    return ImageBatches(dataset.repeat(), len(dataset), identity, worker_count)


def eval_batches(
    images: ImageFolder,
    *,
    batch_size: int,
    size: int = 224,
    limit: int | None = None,
    shard: "grain.sharding.ShardOptions | None" = None,
    worker_count: int = 0,
) -> "ImageBatches":
    """One pass over the evaluation images: every image once, the last batch smaller if need be.

    Images are resized so that their shorter side has 256/224 of `size` (bilinear) and cropped in the centre.

    Args:
      images: Result of `scan_image_folder`.
      batch_size: Images in a batch of this process.
      size: Height and width of the crops in pixels.
      limit: Number of images to use, evenly spread over the listing and therefore over the classes; all if None.
      shard: As for `train_batches`, but no image is left out: parts differ by at most one image.
      worker_count: As for `train_batches`.

    Returns:
      An iterator like that of `train_batches`, in the order of the listing.

    Raises:
      DataError: During iteration, if a file is not a readable image.
    """
    import grain

    shard = shard or grain.sharding.ShardByJaxProcess()
    found = len(images.val)
    taken = found if limit is None else min(limit, found)
    files = _Files(images, "val", [position * found // taken for position in range(taken)])
    dataset = grain.MapDataset.source(files).map(functools.partial(_eval_example, size=size))
    dataset = dataset.slice(slice(shard.shard_index, None, shard.shard_count)).batch(batch_size)
    identity = {
        "sha256": images.sha256,
        "size": size,
        "limit": limit,
        "global_batch_size": batch_size * shard.shard_count,
        "batches_per_epoch": len(dataset),
    }
    return ImageBatches(dataset, len(dataset), identity, worker_count)


class ImageBatches(Iterator[dict[str, np.ndarray]]):
    """Batches with a position that can be saved and restored. A context manager: leaving it ends the workers.

    Attributes:
      batches_per_epoch: Batches of this process in one pass over the data.
    """

    def __init__(
        self,
        dataset: "grain.MapDataset[_Arrays]",
        batches_per_epoch: int,
        identity: Mapping[str, Any],
        worker_count: int,
    ):
        self.batches_per_epoch = batches_per_epoch
        self._dataset = dataset
        self._identity = dict(identity)
        self._worker_count = worker_count
        self._position = 0
        self._iterator: grain.DatasetIterator[_Arrays] | None = None

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None:
            self._iterator = self._start()
        batch = next(self._iterator)
        self._position += 1
        # Copied out of the shared memory, which Grain's array holds: a caller who keeps batches would fill it.
        return {name: np.array(array) for name, array in batch.items()} if self._worker_count else batch

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch taken, and the data it belongs to: a dictionary for JSON."""
        return {"next_batch": self._position, **self._identity}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues with the batch after the last one that was taken before `state`.

        The number of workers may differ. The number of processes may differ too, if the batch over all processes has
        the same size.

        Raises:
          ValueError: If the state belongs to other files, or another seed, size or batch size; the message says which.
        """
        different = [key for key, value in self._identity.items() if key not in state or state[key] != value]
        if different:
            raise ValueError(
                "The position belongs to other data: "
                + ", ".join(f"{key} was {state.get(key)!r}, is {self._identity[key]!r}" for key in different)
            )
        self.close()
        self._position = int(state["next_batch"])

    def close(self) -> None:
        """Ends threads and worker processes; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def __enter__(self) -> "ImageBatches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> "grain.DatasetIterator[_Arrays]":
        import grain

        # An element is a whole batch, so as many batches are in work as there are threads.
        threads = 2 if self._worker_count else min(8, os.cpu_count() or 1)
        read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        if self._worker_count:
            _allow_unparsed_flag()
        rest = self._dataset.slice(slice(self._position, None)).to_iter_dataset(read)
        return iter(rest.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=self._worker_count)))


def _allow_unparsed_flag() -> None:
    """Lets Grain read its flag's default without Abseil's command line (google/grain#1355)."""
    from absl import flags

    name = "grain_enable_multiprocess_worker_profiling"
    if name in flags.FLAGS:
        flags.FLAGS[name].present = True


@dataclasses.dataclass(frozen=True)
class _Files:
    """Paths and labels as a Grain data source."""

    images: ImageFolder
    split: Split
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> _File:
        chosen = self.indices[index]
        files = self.images.train if self.split == "train" else self.images.val
        return self.images.path(self.split, chosen), np.int32(files.labels[chosen])


def _train_example(file: _File, rng: np.random.Generator, *, size: int) -> dict[str, Any]:
    path, label = file
    return {"images": train_view(path, rng, size), "labels": label}


def _eval_example(file: _File, *, size: int) -> dict[str, Any]:
    path, label = file
    return {"images": eval_view(path, size), "labels": label}
