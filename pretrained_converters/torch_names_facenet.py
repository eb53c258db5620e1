"""Names of facenet-pytorch's `InceptionResnetV1` (state dict) in ours (`vae_jax/backbones/facenet.py`)."""

import re
from collections.abc import Iterable

from vae_jax.errors import UserError

PARTS = {
    "conv2d_1a": "Conv2d_1a_3x3", "conv2d_2a": "Conv2d_2a_3x3", "conv2d_2b": "Conv2d_2b_3x3",
    "conv2d_3b": "Conv2d_3b_1x1", "conv2d_4a": "Conv2d_4a_3x3", "conv2d_4b": "Conv2d_4b_3x3",
    "mixed_6a": "Mixed_6a", "mixed_7a": "Mixed_7a", "block8": "Block8_6",
    **{f"repeat_1.{i}": f"Block35_{i + 1}" for i in range(5)},
    **{f"repeat_2.{i}": f"Block17_{i + 1}" for i in range(10)},
    **{f"repeat_3.{i}": f"Block8_{i + 1}" for i in range(5)},
}  # fmt: skip
LEAVES = {
    "conv.weight": ("conv/kernel", "conv"),
    "bn.weight": ("norm/scale", "vector"),
    "bn.bias": ("norm/bias", "vector"),
    "bn.running_mean": ("norm/mean", "vector"),
    "bn.running_var": ("norm/var", "vector"),
    "conv2d.weight": ("up/kernel", "conv"),
    "conv2d.bias": ("up/bias", "vector"),
}
HEAD = {
    "last_linear.weight": ("Bottleneck/kernel", "dense"),
    "last_bn.weight": ("Bottleneck_norm/scale", "vector"),
    "last_bn.bias": ("Bottleneck_norm/bias", "vector"),
    "last_bn.running_mean": ("Bottleneck_norm/mean", "vector"),
    "last_bn.running_var": ("Bottleneck_norm/var", "vector"),
}
NAME = re.compile(  # a branch of one convolution has no number of a layer
    r"(?P<part>repeat_\d\.\d|\w+)\.(?:branch(?P<branch>\d)\.(?:(?P<layer>\d)\.)?)?(?P<leaf>\w+\.\w+)"
)


def facenet(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """{source: (our path `a/b/kernel`, what becomes of its axes)} of all that are not left out.

    Axes: `conv` is OIHW to HWIO, `dense` is transposed, `vector` stays.
    """
    return {name: _ours(name) for name in names if not facenet_left_out(name)}


def facenet_left_out(name: str) -> bool:
    """Whether an entry is known and not needed: counters of batches, and the classifier of the training identities."""
    return name.endswith(".num_batches_tracked") or name.startswith("logits.")


def _ours(name: str) -> tuple[str, str]:
    if name in HEAD:
        return HEAD[name]
    found = NAME.fullmatch(name)
    if not found or found["part"] not in PARTS or found["leaf"] not in LEAVES:
        raise UserError(f"{name} is no entry of facenet-pytorch's InceptionResnetV1.")
    part, (leaf, axes) = PARTS[found["part"]], LEAVES[found["leaf"]]
    if found["branch"] is None:
        return f"{part}/{leaf}", axes
    return f"{part}/branch{found['branch']}_{found['layer'] or 0}/{leaf}", axes
