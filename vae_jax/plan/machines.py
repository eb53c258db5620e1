"""Machines to plan for: what a device has, by its maker, and the devices of a slice, as its compiler sees them."""

import importlib.util
import math
import os
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from vae_jax.errors import UserError, did_you_mean


class Device(NamedTuple):
    """Published peaks of one device: bytes of memory, bytes/s to and from it, FLOP/s of bfloat16 products, and bytes/s
    to the other devices (the vendor's interconnect bandwidth of a chip)."""

    name: str
    memory: float
    bandwidth: float
    products: float
    links: float


FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
GIB = 2.0**30
# Google's pages of each generation (cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e). A v4 chip is two devices.
TPUS = {
    "v4": (Device("half a TPU v4", 16 * GIB, 614e9, 137.5e12, 150e9), DEEP),
    "v5e": (Device("TPU v5e", 16 * GIB, 819e9, 197e12, 200e9), FLAT),
    "v5p": (Device("TPU v5p", 95 * GIB, 2765e9, 459e12, 600e9), DEEP),
    "v6e": (Device("TPU v6e", 32 * GIB, 1638e9, 918e12, 448e9), FLAT),
}
SLICES = {f"{kind}:{shape}": device for kind, (device, shapes) in TPUS.items() for shape in shapes}
ALONE = {  # so that libtpu asks nobody which TPU this is; any type will do
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # beside a training, which has the TPU
}


def described(name: str) -> Device:
    """The device of the slice called `name`, such as v5e:4x4; UserError with the nearest slice if there is none."""
    if name not in SLICES:
        raise UserError(f"There is no machine {name!r} to plan for. {_nearest(name)}")
    return SLICES[name]


def _nearest(name: str) -> str:
    """The slice of the same kind with the nearest number of chips, or the closest name."""
    kind, _, shape = name.partition(":")
    sides = shape.split("x")
    if kind not in TPUS or not all(side.isdigit() for side in sides):
        return did_you_mean(name, SLICES)
    wanted = math.prod(map(int, sides))
    shapes = TPUS[kind][1]
    nearest = min(shapes, key=lambda other: abs(math.log(math.prod(map(int, other.split("x"))) / max(wanted, 1))))
    return f"Did you mean {f'{kind}:{nearest}'!r}? The slices of {kind} are {', '.join(shapes)}."


def mesh_of(name: str) -> Mesh:
    """All devices of a slice along the axis `data`; they need not exist. UserError without their compiler."""
    described(name)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("Programs for TPUs are compiled by libtpu, which is not installed: pip install 'vae_jax[tpu]'")
    for variable, value in ALONE.items():
        os.environ.setdefault(variable, value)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except (RuntimeError, ValueError) as error:
        raise UserError(f"This libtpu cannot compile for {name}: {error}") from None
    assert jax.default_backend() == "cpu", "a plan computes nothing"
    return Mesh(np.array(devices).reshape(-1), ("data",), axis_types=(AxisType.Auto,))
