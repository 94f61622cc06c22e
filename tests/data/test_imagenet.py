"""ImageNet's folder form: the listing, the views of training and evaluation, and the position in the data."""

import itertools
import json
import math
import os
import pathlib
import struct
import tarfile
import zlib

import numpy as np
import pytest
from grain.sharding import ShardOptions
from PIL import Image, ImageFile

from padam_optax.data import views
from padam_optax.data.imagenet import ImageFolder, eval_batches, scan_image_folder, train_batches
from padam_optax.data.images import DataError

CLASSES = ("n01", "n02", "n03")
COUNTS = {"train": 8, "val": 3}
ONE_PROCESS = ShardOptions(0, 1)


def save(path: pathlib.Path, pixels: np.ndarray, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format=kind)


def grey(value: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> pathlib.Path:
    """24 training and 9 evaluation images; each has a grey of its own, `10 * number`, which crops do not change."""
    root = tmp_path_factory.mktemp("images")
    for split, count in COUNTS.items():
        for number in range(count * len(CLASSES)):
            name = CLASSES[number // count]
            # The shapes vary, as they do in ImageNet.
            save(root / split / name / f"{name}_{number}.JPEG", grey(10 * number, 20 + number, 40 - number))
    return root


@pytest.fixture(scope="module")
def images(tree) -> ImageFolder:
    return scan_image_folder(tree, "grey")


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> ImageFolder:
    """24 training images and one of the evaluation, of which no two parts are the same."""
    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for split, count in {"train": 24, "val": 1}.items():
        for number in range(count):
            pixels = rng.integers(256, size=(40, 30, 3), dtype=np.uint8)
            save(root / split / "only" / f"{number}.JPEG", pixels, "PNG")
    return scan_image_folder(root, "noise")


@pytest.fixture
def small(tmp_path) -> pathlib.Path:
    """A tree of its own for a test that damages it: two classes, an image in each."""
    for split, name in itertools.product(COUNTS, ("cat", "dog")):
        save(tmp_path / split / name / "1.JPEG", grey(100))
    return tmp_path


def numbers(batch: dict[str, np.ndarray]) -> list[int]:
    """Which images of `tree` a batch holds."""
    values = batch["images"].reshape(len(batch["labels"]), -1)
    assert np.ptp(values.astype(int), axis=1).max() <= 2
    return [round(value / 10) for value in values.mean(axis=1)]


def take(batches, count: int) -> list[dict[str, np.ndarray]]:
    return list(itertools.islice(batches, count))


def assert_same(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_listing(images, tree):
    assert images.classes == CLASSES
    assert images.label == "grey"
    assert (len(images.train), len(images.val)) == (24, 9)
    np.testing.assert_array_equal(images.train.labels, np.repeat([0, 1, 2], 8))
    assert images.path("train", 0) == tree / "train" / "n01" / "n01_0.JPEG"
    assert images.path("val", 8) == tree / "val" / "n03" / "n03_8.JPEG"


def test_the_checksum_is_that_of_names_and_sizes(small):
    before = scan_image_folder(small, "x").sha256
    (small / ".DS_Store").write_text("hidden")
    for name in (".hidden", "Thumbs.db", "desktop.ini", "Desktop.ini", ".DS_Store", "._1.JPEG"):
        for folder in (small / "train", small / "val" / "dog"):
            (folder / name).mkdir() if name == ".hidden" and folder.name == "train" else (folder / name).write_text("x")
    assert scan_image_folder(small, "x").sha256 == before
    image = small / "val" / "dog" / "1.JPEG"
    renamed = image.rename(image.with_name("2.JPEG"))
    other_name = scan_image_folder(small, "x").sha256
    with renamed.rename(image).open("ab") as file:
        file.write(b"x")
    other_size = scan_image_folder(small, "x").sha256
    assert len({before, other_name, other_size}) == 3


def empty_class(root):
    (root / "val" / "dog" / "1.JPEG").unlink()
    return root / "val" / "dog", "is empty; expected at least one file"


def class_in_train_only(root):
    save(root / "train" / "eel" / "1.JPEG", grey(1))
    return root / "train" / "eel", "no counterpart"


def class_in_val_only(root):
    save(root / "val" / "eel" / "1.JPEG", grey(1))
    return root / "val" / "eel", "no counterpart"


def file_among_classes(root):
    (root / "train" / "labels.txt").write_text("cat")
    return root / "train" / "labels.txt", "is not a folder"


def text_among_images(root):
    (root / "train" / "cat" / "README").write_text("cats")
    return root / "train" / "cat" / "README", "is not a JPEG file"


def folder_among_images(root):
    (root / "train" / "cat" / "more.JPEG").mkdir()
    return root / "train" / "cat" / "more.JPEG", "is not a JPEG file"


def link_to_itself(root):
    path = root / "train" / "cat" / "2.JPEG"
    path.symlink_to(path)
    return path, "is not a JPEG file"


def link_to_itself_among_classes(root):
    path = root / "train" / "eel"
    path.symlink_to(path)
    return path, "is not a folder"


def pipe(root):
    os.mkfifo(root / "train" / "cat" / "2.JPEG")
    return root / "train" / "cat" / "2.JPEG", "is not a JPEG file"


def empty_file(root):
    (root / "train" / "cat" / "1.JPEG").write_bytes(b"")
    return root / "train" / "cat" / "1.JPEG", "is empty; expected a JPEG image"


def no_split(root):
    (root / "val").rename(root / "test")
    return root / "val", "does not exist"


def no_class(root):
    for path in sorted((root / "train").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return root / "train", "is empty; expected a folder for each class"


DAMAGES = (
    empty_class,
    class_in_train_only,
    class_in_val_only,
    file_among_classes,
    text_among_images,
    folder_among_images,
    link_to_itself,
    link_to_itself_among_classes,
    pipe,
    empty_file,
    no_split,
    no_class,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tree_of_another_form(small, damage):
    path, message = damage(small)
    with pytest.raises(DataError, match=f"{path} .*{message}" if message == "no counterpart" else f"{path} {message}"):
        scan_image_folder(small, "x")


@pytest.mark.parametrize("label", ["", "cifar10", "cifar100"])
def test_a_tree_needs_a_label_of_its_own(small, label):
    with pytest.raises(DataError, match="--data-label"):
        scan_image_folder(small, label)


def test_an_epoch_holds_every_image_once(images):
    with train_batches(images, batch_size=5, seed=0, size=16, drop_remainder=False, shard=ONE_PROCESS) as batches:
        assert batches.batches_per_epoch == 5
        epochs = [take(batches, 5) for _ in range(3)]
    orders = []
    for epoch in epochs:
        assert [len(batch["labels"]) for batch in epoch] == [5, 5, 5, 5, 4]
        for batch in epoch:
            assert batch["images"].shape[1:] == (16, 16, 3)
            assert (batch["images"].dtype, batch["labels"].dtype) == (np.uint8, np.int32)
            assert [number // COUNTS["train"] for number in numbers(batch)] == batch["labels"].tolist()
        orders.append([number for batch in epoch for number in numbers(batch)])
        assert sorted(orders[-1]) == list(range(24))
    assert len({tuple(order) for order in orders}) == 3


def test_images_that_do_not_fill_a_batch_are_left_out_of_the_epoch(images):
    with train_batches(images, batch_size=5, seed=0, size=16, shard=ONE_PROCESS) as batches:
        assert batches.batches_per_epoch == 4
        orders = [[number for batch in take(batches, 4) for number in numbers(batch)] for _ in range(2)]
    assert all(len(set(order)) == 20 for order in orders)
    # Others in each epoch.
    assert set(orders[0]) != set(orders[1])


def test_the_seed_decides(images, noise):
    first, again, other = (
        take(train_batches(noise, batch_size=8, seed=seed, size=16, shard=ONE_PROCESS), 3) for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert not np.array_equal(first[0]["images"], other[0]["images"])
    orders = [numbers(next(train_batches(images, batch_size=8, seed=seed, size=16))) for seed in (1, 2)]
    assert orders[0] != orders[1]


def test_each_epoch_draws_other_views(gradient):
    first, second = take(train_batches(gradient, batch_size=1, seed=0, size=16, shard=ONE_PROCESS), 2)
    assert not np.array_equal(first["images"], second["images"])


def test_processes_share_the_batches_of_one(noise):
    # 24 images for 5 processes: 4 are left out of each epoch, so that all take equally many steps.
    alone = take(train_batches(noise, batch_size=5, seed=3, size=16, shard=ONE_PROCESS), 10)
    shares = [
        take(train_batches(noise, batch_size=1, seed=3, size=16, shard=ShardOptions(index, 5)), 10)
        for index in range(5)
    ]
    for step, batch in enumerate(alone):
        joined = np.concatenate([share[step]["images"] for share in shares])
        np.testing.assert_array_equal(joined, batch["images"])


def test_too_few_images(images):
    with pytest.raises(DataError, match=r"24 images, which do not fill a batch of 13 in each of 2 process"):
        train_batches(images, batch_size=13, seed=0, shard=ShardOptions(0, 2))


@pytest.fixture(scope="module")
def gradient(tmp_path_factory) -> ImageFolder:
    """An image whose red is the column and whose green is the row; lossless, as one of ImageNet's files is."""
    root = tmp_path_factory.mktemp("gradient")
    rows, columns = np.mgrid[:256, :256]
    pixels = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    for split in COUNTS:
        save(root / split / "only" / "1.JPEG", pixels, "PNG")
    return scan_image_folder(root, "gradient")


def test_crops_and_flips(gradient):
    size, draws = 32, 300
    batches = train_batches(gradient, batch_size=1, seed=0, size=size, shard=ONE_PROCESS)
    crops = np.concatenate([batch["images"] for batch in take(batches, draws)]).astype(float)
    red, green = crops[:, size // 2, :, 0], crops[:, :, size // 2, 1]
    # Between the centres of the first and the last pixel lie (size - 1) / size of the crop.
    width, height = (np.abs(line[:, -3] - line[:, 2]) * size / (size - 5) for line in (red, green))
    area, ratio = width * height / 256**2, width / height
    assert 0.07 < area.min() < 0.12
    assert 0.9 < area.max() < 1.02
    # Uniform in area, but that large crops of extreme ratios do not fit and are drawn again.
    assert 0.4 < area.mean() < 0.56
    assert 0.72 < ratio.min() < 0.80
    assert 1.25 < ratio.max() < 1.38
    assert 0.4 < np.mean(red[:, -1] < red[:, 0]) < 0.6
    assert np.all(green[:, -1] > green[:, 0])
    # Everywhere in the image.
    for corner in (red.min(axis=1), green.min(axis=1)):
        assert corner.min() < 3
        assert corner.max() > 120


@pytest.mark.parametrize("shape", [(1, 400), (400, 1)])
def test_a_crop_of_an_image_too_long_for_any(tmp_path, shape):
    for split in COUNTS:
        save(tmp_path / split / "only" / "1.JPEG", grey(50, *shape))
    batches = train_batches(scan_image_folder(tmp_path, "x"), batch_size=1, seed=0, size=8, shard=ONE_PROCESS)
    np.testing.assert_allclose(next(batches)["images"], 50, atol=1)


# Height and width of an image; what its sides become at 224 pixels, and where the crop begins.
EVALUATION = [((375, 500), (256, 341), (16, 58)), ((500, 375), (341, 256), (58, 16)), ((64, 64), (256, 256), (16, 16))]


@pytest.mark.parametrize(("shape", "resized", "corner"), EVALUATION)
def test_the_view_of_the_evaluation(tmp_path, shape, resized, corner):
    pixels = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    for split in COUNTS:
        save(tmp_path / split / "only" / "1.JPEG", pixels, "PNG")
    (batch,) = eval_batches(scan_image_folder(tmp_path, "x"), batch_size=4, shard=ONE_PROCESS)
    expected = np.asarray(Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.BILINEAR))
    top, left = corner
    np.testing.assert_array_equal(batch["images"][0], expected[top : top + 224, left : left + 224])


@pytest.mark.parametrize("size", [(1_200, 40), (1_201, 40), (41, 1_200), (41, 1_201)])
def test_of_a_long_image_the_middle_is_resized(tmp_path, size):
    """What the crop sees is that of the whole image, resized."""
    line = np.random.default_rng(0).integers(256, size=max(size), dtype=np.uint8)
    image = Image.fromarray(np.tile(line, (min(size), 1)) if size[0] > size[1] else np.tile(line[:, None], min(size)))
    image.save(tmp_path / "long.png")
    width, height = (max(256, int(256 * side / min(size))) for side in size)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    expected = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    expected = np.asarray(expected.crop((left, top, left + 224, top + 224)))
    np.testing.assert_allclose(views.eval_view(tmp_path / "long.png", 224).astype(int), expected.astype(int), atol=1)


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (30_000, 3)])
def test_a_long_image_is_never_made_large(monkeypatch, tmp_path, size):
    """65,500 x 1 pixels, the shorter side resized to 256, would be 4 billion."""
    Image.new("RGB", size, (90, 90, 90)).save(tmp_path / "long.jpg")
    sizes, resize = [], Image.Image.resize

    def recorded(image, size, *args):
        sizes.append(size)
        return resize(image, size, *args)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    for pixels in (
        views.eval_view(tmp_path / "long.jpg", 224),
        views.train_view(tmp_path / "long.jpg", np.random.default_rng(0), 224),
    ):
        assert pixels.shape == (224, 224, 3)
        np.testing.assert_allclose(pixels, 90, atol=1)
    assert max(map(math.prod, sizes)) <= 20 * 256 * 256


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [9_460, 13_000, 20_000, 2**31 - 1])
def test_images_with_too_many_pixels(tmp_path, side):
    """They are refused by what their first bytes say: nothing is decoded."""
    save_png(tmp_path / "large.JPEG", np.zeros((1, 1, 1), np.uint8), depth=1, color=0, says=(side, side))
    for view in (views.eval_view, lambda path, size: views.train_view(path, np.random.default_rng(0), size)):
        with pytest.raises(DataError, match=rf"^{tmp_path / 'large.JPEG'} has more than 89,478,485 pixels"):
            view(tmp_path / "large.JPEG", 224)


def test_large_images_take_turns(monkeypatch, tmp_path):
    """What a process decodes at a time is one large image, and small ones."""
    save(tmp_path / "large.JPEG", grey(1, 30, 30))
    save(tmp_path / "small.JPEG", grey(1, 20, 20))
    monkeypatch.setattr(views, "_LARGE_PIXELS", 500)
    held, load = {}, ImageFile.ImageFile.load

    def recorded(image):
        held[image.size] = views._LARGE.locked()
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", recorded)
    for name in ("large.JPEG", "small.JPEG"):
        views.eval_view(tmp_path / name, 8)
    (tmp_path / "large.JPEG").write_bytes((tmp_path / "large.JPEG").read_bytes()[:400])
    with pytest.raises(DataError, match="cannot be read"):
        views.eval_view(tmp_path / "large.JPEG", 8)
    assert held == {(30, 30): True, (20, 20): False}
    assert not views._LARGE.locked()


def save_png(
    path: pathlib.Path, samples: np.ndarray, depth: int, color: int, palette: bytes = b"", says: tuple[int, int] = ()
) -> None:
    """A PNG of (height, width, channels) samples of any depth, written as its specification says."""
    height, width, _ = samples.shape
    rows = samples.reshape(height, -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(height, -1), axis=-1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), packed], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", *(says or (width, height)), depth, color, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"PLTE", palette) if palette else b""]
    path.write_bytes(b"".join([*parts, chunk(b"IDAT", zlib.compress(lines.tobytes())), chunk(b"IEND", b"")]))


# Bits of a sample, PNG's number for the kind of colour, and its channels.
DEPTHS = [
    *((depth, 0, 1) for depth in (1, 2, 4, 8, 16)),
    *((depth, color, channels) for depth in (8, 16) for color, channels in ((2, 3), (4, 2), (6, 4))),
]


@pytest.mark.parametrize(("depth", "color", "channels"), DEPTHS)
@pytest.mark.parametrize("share", [0, 0.3, 0.7, 1])
def test_values_are_scaled_by_the_depth_of_the_file(tmp_path, depth, color, channels, share):
    value = round(share * (2**depth - 1))
    save_png(tmp_path / "1.JPEG", np.full((20, 20, channels), value), depth, color)
    expected = 255 * value / (2**depth - 1)
    np.testing.assert_allclose(views.eval_view(tmp_path / "1.JPEG", 8), expected, atol=1)
    trained = views.train_view(tmp_path / "1.JPEG", np.random.default_rng(0), 8)
    np.testing.assert_allclose(trained, expected, atol=1)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes(tmp_path, depth):
    save_png(tmp_path / "1.JPEG", np.ones((20, 20, 1)), depth, 3, bytes([0, 0, 0, 10, 90, 200]))
    np.testing.assert_array_equal(views.eval_view(tmp_path / "1.JPEG", 8), np.full((8, 8, 3), [10, 90, 200]))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_all_colour_spaces_become_rgb(tmp_path, mode):
    for split in COUNTS:
        path = tmp_path / split / "only" / "1.JPEG"
        path.parent.mkdir(parents=True)
        Image.fromarray(grey(90)).convert(mode).save(path, format="JPEG")
    (batch,) = eval_batches(scan_image_folder(tmp_path, "x"), batch_size=1, size=16, shard=ONE_PROCESS)
    assert batch["images"].shape == (1, 16, 16, 3)
    np.testing.assert_allclose(batch["images"], 90, atol=2)


def test_the_evaluation_sees_every_image_once_in_order(images):
    found = list(eval_batches(images, batch_size=4, size=16, shard=ONE_PROCESS))
    assert [len(batch["labels"]) for batch in found] == [4, 4, 1]
    assert [number for batch in found for number in numbers(batch)] == list(range(9))
    np.testing.assert_array_equal(np.concatenate([batch["labels"] for batch in found]), np.repeat([0, 1, 2], 3))
    shares = [eval_batches(images, batch_size=4, size=16, shard=ShardOptions(index, 2)) for index in range(2)]
    assert sorted(number for share in shares for batch in share for number in numbers(batch)) == list(range(9))


@pytest.mark.parametrize(("limit", "expected"), [(3, [0, 3, 6]), (9, list(range(9))), (100, list(range(9)))])
def test_a_part_of_the_evaluation_is_spread_over_the_classes(images, limit, expected):
    (batch,) = eval_batches(images, batch_size=9, size=16, limit=limit, shard=ONE_PROCESS)
    assert numbers(batch) == expected


@pytest.mark.parametrize("worker_count", [0, 2])
def test_a_restored_position_goes_on_with_the_very_same_batches(noise, worker_count):
    # Four batches an epoch: the position is taken in the second epoch and goes on into the third.
    settings = {"batch_size": 5, "seed": 7, "size": 24, "shard": ONE_PROCESS}
    expected = take(train_batches(noise, **settings), 9)
    with train_batches(noise, worker_count=worker_count, **settings) as batches:
        assert_same(take(batches, 6), expected[:6])
        state = json.loads(json.dumps(batches.get_state()))
    with train_batches(noise, worker_count=worker_count, **settings) as batches:
        batches.set_state(state)
        assert_same(take(batches, 3), expected[6:])
        assert batches.get_state() == {**state, "next_batch": 9}


def test_an_iterator_can_go_back(noise):
    batches = train_batches(noise, batch_size=5, seed=7, size=24, shard=ONE_PROCESS)
    start = batches.get_state()
    expected = take(batches, 2)
    batches.set_state(start)
    assert_same(take(batches, 2), expected)


def test_the_position_in_an_evaluation(images):
    batches = eval_batches(images, batch_size=4, size=16, shard=ONE_PROCESS)
    next(batches)
    state = batches.get_state()
    rest = list(batches)
    again = eval_batches(images, batch_size=4, size=16, shard=ONE_PROCESS)
    again.set_state(state)
    assert_same(list(again), rest)


def test_a_position_holds_for_another_number_of_processes(noise):
    alone = train_batches(noise, batch_size=8, seed=0, size=16, shard=ONE_PROCESS)
    take(alone, 4)
    share = train_batches(noise, batch_size=4, seed=0, size=16, shard=ShardOptions(1, 2))
    share.set_state(alone.get_state())
    np.testing.assert_array_equal(next(share)["images"], next(alone)["images"][1::2])


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": 17}, {"batch_size": 6}, {"drop_remainder": False}])
def test_a_position_in_other_data_is_refused(images, change):
    settings = {"batch_size": 5, "seed": 0, "size": 16, "shard": ONE_PROCESS}
    state = train_batches(images, **settings).get_state()
    named = {"batch_size": "global_batch_size", "drop_remainder": "batches_per_epoch"}
    (changed,) = (named.get(name, name) for name in change)
    with pytest.raises(ValueError, match=rf"{changed} was \d+, is \d+"):
        train_batches(images, **{**settings, **change}).set_state(state)


def test_a_position_in_other_files_is_refused(images, gradient):
    state = eval_batches(gradient, batch_size=5, size=16, shard=ONE_PROCESS).get_state()
    with pytest.raises(ValueError, match="sha256 was"):
        eval_batches(images, batch_size=5, size=16, shard=ONE_PROCESS).set_state(state)


@pytest.mark.parametrize(("damage", "worker_count"), [("truncated", 0), ("no image", 0), ("truncated", 2)])
def test_an_unreadable_image(small, worker_count, damage):
    path = small / "train" / "dog" / "1.JPEG"
    path.write_bytes(path.read_bytes()[:-40] if damage == "truncated" else b"not a JPEG")
    images = scan_image_folder(small, "x")
    settings = {"seed": 0, "size": 16, "shard": ONE_PROCESS, "worker_count": worker_count}
    with (
        train_batches(images, batch_size=2, **settings) as batches,
        pytest.raises(DataError, match=rf"^{path} cannot be read: .*Expected a JPEG image"),
    ):
        next(batches)


def test_tiny_imagenet(shared_data, tmp_path):
    """Real files: what 20 steps, a checkpoint between them and the evaluation see; processes, then threads."""
    with tarfile.open(shared_data("imagenet-tiny10.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    images = scan_image_folder(tmp_path / "imagenet-tiny10", "imagenet-tiny10")
    assert (len(images.classes), len(images.train), len(images.val)) == (10, 5000, 500)
    assert images.sha256 == "450a7ad66e02f5ee2b25a3bb1f31be837fe143955d39fbc6f1daf68cb956706b"
    settings = {"batch_size": 32, "seed": 0, "size": 64, "shard": ONE_PROCESS}
    with train_batches(images, worker_count=2, **settings) as batches:
        assert batches.batches_per_epoch == 156
        head = take(batches, 10)
        state = batches.get_state()
        tail = take(batches, 10)
    with train_batches(images, **settings) as batches:
        assert_same(take(batches, 10), head)
    with train_batches(images, **settings) as batches:
        batches.set_state(state)
        assert_same(take(batches, 10), tail)
    labels = np.concatenate([batch["labels"] for batch in eval_batches(images, batch_size=32, size=64, limit=100)])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 10))
