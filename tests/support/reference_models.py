"""The authors' image networks, filled by a rule rather than from stored weights, as support/data/README.md says."""

import functools
import json
import math
import pathlib
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, traverse_util

from padam_optax.models.resnet import resnet18
from padam_optax.models.vgg import vgg16
from padam_optax.models.wide_resnet import wrn16_4

FILE = pathlib.Path(__file__).parent / "data" / "models.npz"
NETWORKS: dict[str, Callable[..., nnx.Module]] = {"vgg16": vgg16, "resnet18": resnet18, "wrn16_4": wrn16_4}
LABELS = np.arange(4)
BATCH_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
RESIDUAL = {"conv1": "conv1", "bn1": "norm1", "conv2": "conv2", "bn2": "norm2", "0": "shortcut", "1": "shortcut_norm"}


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(FILE) as archive:
        return dict(archive)


def expected(network: str, quantity: str) -> np.ndarray:
    return arrays()[f"{network}/{quantity}"]


def images() -> np.ndarray:
    """(4, 32, 32, 3), float32."""
    return arrays()["images_nchw"].transpose(0, 2, 3, 1)


def hash_u(tensor: int, index: np.ndarray) -> np.ndarray:
    """Numbers in [-1, 1) that look random, by integer arithmetic modulo 2^32; float64."""
    x = (index.astype(np.uint64) + tensor * 0x9E3779B9).astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return (x ^ (x >> np.uint32(16))) / 2.0**31 - 1


def fill_values(kind: str, u: np.ndarray) -> np.ndarray:
    """The values of a tensor of that kind, from its `u` in PyTorch's shape."""
    match kind:
        case "conv.weight" | "linear.weight":
            return math.sqrt(6 / math.prod(u.shape[1:])) * u
        case "bn.weight":
            return 1 + 0.1 * u
        case "bn.running_var":
            return 1 + 0.5 * np.abs(u)
        case _:
            return 0.1 * u


def tensors(network: str) -> list[tuple[str, tuple[int, ...], str]]:
    """PyTorch's name, shape and kind of each tensor; its number in the hash is its place, counted from 1."""
    return [(name, tuple(shape), kind) for name, shape, kind in json.loads(str(expected(network, "tensors_json")))]


@functools.cache
def fill(network: str) -> dict[str, np.ndarray]:
    """The tensors by PyTorch's name, in PyTorch's layout; float32."""
    return {
        name: fill_values(kind, hash_u(number, np.arange(math.prod(shape))).reshape(shape)).astype(np.float32)
        for number, (name, shape, kind) in enumerate(tensors(network), 1)
    }


@functools.cache
def paths(network: str) -> dict[str, tuple[str | int, ...]]:
    """Where each of PyTorch's tensors is in our module."""
    found = {}
    for name, _, kind in tensors(network):
        layer, leaf = name.rsplit(".", 1)
        leaf = BATCH_NORM[leaf] if kind.startswith("bn.") else {"weight": "kernel", "bias": "bias"}[leaf]
        found[name] = (*(_vgg_layer(layer) if network == "vgg16" else _resnet_layer(layer)), leaf)
    return found


def _vgg_layer(layer: str) -> tuple[str | int, ...]:
    if layer == "classifier":
        return ("head",)
    position = int(layer.removeprefix("features."))
    for stage, convolutions in enumerate((2, 2, 3, 3, 3)):
        if position < 3 * convolutions:
            return "features", "stages", stage, position // 3, ("conv", "norm")[position % 3]
        # A convolution, its norm and its ReLU take three places, the stage's pool one.
        position -= 3 * convolutions + 1
    raise KeyError(layer)


def _resnet_layer(layer: str) -> tuple[str | int, ...]:
    found = re.fullmatch(r"layer(\d)\.(\d)(?:\.shortcut|\.downsample)?\.(\w+)", layer)
    if found is None:
        return ({"conv1": "stem", "bn1": "stem_norm", "linear": "head", "fc": "head"}[layer],)
    stage, block, part = found.groups()
    return "blocks", 2 * (int(stage) - 1) + int(block), RESIDUAL[part]


def from_torch(array: np.ndarray) -> np.ndarray:
    """OIHW to HWIO, (out, in) to (in, out), vectors as they are."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def to_torch(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def load(network: str, param_dtype: type[np.floating], **settings) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Structure, parameters and batch statistics of the filled network with 10 classes."""
    graph, state = nnx.split(nnx.eval_shape(lambda: NETWORKS[network](classes=10, rngs=nnx.Rngs(0), **settings)))
    ours = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    filled = {
        paths(network)[name]: jnp.asarray(from_torch(array), param_dtype) for name, array in fill(network).items()
    }
    assert {path: array.shape for path, array in ours.items()} == {path: array.shape for path, array in filled.items()}
    nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(filled))
    return nnx.split(nnx.merge(graph, state), nnx.Param, nnx.BatchStat)


def by_torch_name(network: str, state: nnx.State) -> dict[str, np.ndarray]:
    """The state's arrays in PyTorch's layout, names and order."""
    found = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    return {name: to_torch(np.asarray(found[path])) for name, path in paths(network).items() if path in found}


@functools.cache
def measure(network: str, dtype: type[np.floating]) -> dict[str, np.ndarray]:
    """What the file records of the network, computed by ours in that dtype."""
    with jax.enable_x64(dtype is np.float64):
        graph, params, stats = load(network, dtype)
        inputs = jnp.asarray(images(), dtype)

        def loss(params, stats, train):
            model = nnx.merge(graph, params, stats, copy=True)
            logits = model(inputs, train=train)
            loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()
            return loss, (logits, nnx.state(model, nnx.BatchStat))

        @jax.jit
        def run(params, stats):
            loss_eval, (logits_eval, _) = loss(params, stats, train=False)
            (loss_train, (logits_train, after)), gradients = jax.value_and_grad(loss, has_aux=True)(
                params, stats, train=True
            )
            _, (logits_eval_after, _) = loss(params, after, train=False)
            outputs = {
                "loss_eval": loss_eval,
                "loss_train": loss_train,
                "logits_eval": logits_eval,
                "logits_train": logits_train,
                "logits_eval_after": logits_eval_after,
            }
            return outputs, gradients, after

        outputs, gradients, after = run(params, stats)
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves((outputs, gradients, after)))

    measured = {name: np.asarray(value) for name, value in outputs.items()}
    gradients = by_torch_name(network, gradients)
    norms = {name: np.linalg.norm(gradient) for name, gradient in gradients.items()}
    first, last = next(iter(gradients)), list(gradients)[-2]
    measured |= {
        "grad_names": np.array(list(gradients)),
        "grad_norm_each": np.array(list(norms.values())),
        "grad_global_norm": np.linalg.norm(list(norms.values())),
        "grad_norm_first_conv_weight": norms[first],
        "grad_norm_last_linear_weight": norms[last],
        "grad_first_conv_weight_0_oihw": gradients[first][0],
        "grad_last_linear_bias": gradients[last.replace("weight", "bias")],
    }
    after = by_torch_name(network, after)
    for statistic in ("running_mean", "running_var"):
        each = [array for name, array in after.items() if name.endswith(statistic)]
        measured |= {
            f"first_bn_{statistic}_after": each[0],
            f"last_bn_{statistic}_after": each[-1],
            f"bn_{statistic}_norms_after": np.array([np.linalg.norm(array) for array in each]),
        }
    return measured
