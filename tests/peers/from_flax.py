"""Our parameters and running statistics as PyTorch's state dict. Only the order of axes and mirroring differ."""

from collections.abc import Collection, Mapping

import numpy as np

NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def state_dict(
    leaves: Mapping[str, np.ndarray],
    small: tuple[int, int, int],
    reads: Collection[str] = (),
    makes: Collection[str] = (),
    channels_last: bool = False,
    mirrored: bool = False,
) -> dict[str, np.ndarray]:
    """The state dict of one network from leaves by path, `conv1/kernel`; layers have the same names in both.

    Args:
      small: (H, W, C) of the image that is flattened before, or made from, a dense layer.
      reads, makes: the layers whose input, and those whose output, is that image flattened.
      channels_last: the memory layout of the PyTorch network's images.
      mirrored: whether that network's images are rotated by 180 degrees.
    """
    state = {}
    for path, leaf in leaves.items():
        layer, _, kind = path.rpartition("/")
        leaf = np.asarray(leaf)
        if leaf.ndim == 4:  # [h, w, in, out], or [h, w, out, in] of a transposed convolution
            leaf = (leaf[::-1, ::-1] if mirrored else leaf).transpose(3, 2, 0, 1)
        elif leaf.ndim == 2:
            leaf = leaf.T  # [out, in]
        if layer in reads and kind == "kernel":
            leaf = leaf[:, _positions(small, channels_last, mirrored)]
        elif layer in makes:
            leaf = leaf[_positions(small, channels_last, mirrored)]
        state[f"{layer}.{NAMES[kind]}"] = np.ascontiguousarray(leaf)
    return state


def _positions(small: tuple[int, int, int], channels_last: bool, mirrored: bool) -> np.ndarray:
    """[H W C]: where in our flattened image [H, W, C] PyTorch's numbers are."""
    positions = np.arange(np.prod(small)).reshape(small)
    if mirrored:
        positions = positions[::-1, ::-1]
    return (positions if channels_last else positions.transpose(2, 0, 1)).ravel()
