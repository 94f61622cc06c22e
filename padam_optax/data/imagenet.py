"""ImageNet in its folder form, `<root>/{train,val}/<class>/*.JPEG`, through Grain.

A batch is a function of its number: shuffling, crops and flips depend on the seed and the position only, so that the
place in the data is one number and the batches do not depend on how many processes decode them.
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

# What systems put beside a user's files, in lower case; hidden files are left out anyway.
_NOT_DATA = ("thumbs.db", "desktop.ini")

Split = Literal["train", "val"]
# Path and label of an image, and a batch or an example as they go through the pipeline.
_File = tuple[pathlib.Path, np.int32]
_Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The images of a split.

    Attributes:
      names: (N,), bytes: file names, by class and sorted in each.
      labels: (N,), int32: index of the class, whose folder holds the file.
    """

    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A data set in folder form; which files there are, not what is in them.

    Attributes:
      root: The folder that holds `train` and `val`.
      classes: Names of the classes' folders, sorted; a label is an index here.
      train: Training images.
      val: Images of the evaluation.
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
        """`val`: what results are measured on."""
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
      label: The name under which results on these files are reported; not a name kept for a checked download.

    Raises:
      DataError: If the label is missing or reserved, a folder is missing or empty, the splits have different classes,
        or there is anything but folders of JPEG files that are not empty; the message says what was expected.
    """
    if not label or reserved_name(label) is not None:
        raise DataError(
            f"Name the data with --data-label (for example imagenet), given {label!r}: results are reported under it,"
            f" and {', '.join(RESERVED_LABELS)} are kept for checked downloads."
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
    """What is in a folder, without what systems put there."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in _NOT_DATA:
                yield entry


def _is(kind: Callable[[], bool]) -> bool:
    """What an entry says of its kind, also of a link that leads to itself."""
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

    A crop has 0.08 to 1 times the image's area and 3/4 to 4/3 as its ratio of sides, as in Inception's training, and
    is resized to a square (bilinear). What a batch of all processes holds does not depend on their number.

    Args:
      images: What `scan_image_folder` found.
      batch_size: Images in a batch of this process.
      seed: What the order, the crops and the flips follow from; 0 to 2^32 - 1.
      size: Height and width of the crops in pixels.
      drop_remainder: Whether the last images of an epoch are left out of it if they do not fill a batch; otherwise
        they are a smaller one.
      shard: Which part of the data is this process's, all of one size; by default JAX's process index and count.
      worker_count: Processes that decode; 0 decodes in threads of this one. They are started as by `multiprocessing`'s
        "spawn": a script needs `if __name__ == "__main__":`. Shared memory must hold `3 * worker_count` batches.

    Returns:
      An iterator of dictionaries with `images` (batch_size, size, size, 3), uint8, and `labels` (batch_size,), int32.

    Raises:
      DataError: If the images do not fill a batch; later, for a batch with a file that is not a readable image.
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
    # Sharded after the random transformations: with the positions of all processes, they draw different crops.
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
    """One pass over the images of the evaluation: every image once, the last batch as small as it is.

    Images are resized so that their shorter side has 256/224 of `size` (bilinear) and cropped in the centre.

    Args:
      images: What `scan_image_folder` found.
      batch_size: Images in a batch of this process.
      size: Height and width of the crops in pixels.
      limit: Take only so many images, evenly spread over the listing and thereby over the classes.
      shard: As for `train_batches`, but no image is left out: shares differ by at most one image.
      worker_count: As for `train_batches`.

    Returns:
      An iterator as that of `train_batches`, in the order of the listing.

    Raises:
      DataError: Later, for a batch with a file that is not a readable image.
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
        # Copied out of the shared memory, which is freed with Grain's array: a caller who keeps batches would fill it.
        return {name: np.array(array) for name, array in batch.items()} if self._worker_count else batch

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch taken, and what it is a position in: a dictionary for JSON."""
        return {"next_batch": self._position, **self._identity}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the batch after the one that was the last when `state` was taken.

        The number of workers may be another one, and so may that of processes, if each has its share of an equally
        large batch.

        Raises:
          ValueError: If the state is one of other files, another seed, size or batch size; the message says which.
        """
        different = [key for key, value in self._identity.items() if key not in state or state[key] != value]
        if different:
            raise ValueError(
                "The position is one in other data: "
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

        # An element is a batch already: as many are in work at a time as there are threads.
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
    """Paths and labels, as a source of Grain's."""

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
