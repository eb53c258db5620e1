"""Machines to plan for: what a device has, by its maker, and all its devices, as their compiler sees them."""

import contextlib
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from vae_jax.errors import UserError


class Device(NamedTuple):
    """Published peaks of one device: bytes of memory, bytes/s to and from it, FLOP/s of bfloat16 products and of
    float32's in the precision that jax takes for them, and bytes/s to the other devices (the vendor's interconnect
    bandwidth of a chip)."""

    name: str
    memory: float
    bandwidth: float
    products: float
    float32_products: float
    links: float


class Multiprocessors(NamedTuple):
    """What the GPU's compiler wants to know: compute capability, multiprocessors, their threads, float32 units and
    bytes of shared memory, bytes of second-level cache, and GHz."""

    capability: tuple[int, int]
    number: int
    threads: int
    units: int
    shared: int
    cache: int
    clock: float


FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
GIB = 2.0**30
# Google's pages of each generation (cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e). A v4 chip is two devices. Products
# of float32 arrays are those of their bfloat16 parts.
TPUS = {
    "v4": (Device("half a TPU v4", 16 * GIB, 614e9, 137.5e12, 137.5e12, 150e9), DEEP),
    "v5e": (Device("TPU v5e", 16 * GIB, 819e9, 197e12, 197e12, 200e9), FLAT),
    "v5p": (Device("TPU v5p", 95 * GIB, 2765e9, 459e12, 459e12, 600e9), DEEP),
    "v6e": (Device("TPU v6e", 32 * GIB, 1638e9, 918e12, 918e12, 448e9), FLAT),
}
# NVIDIA's data sheets, SXM where there is one, products without sparsity, those of float32 arrays in TF32; and its CUDA
# C++ Programming Guide, Technical Specifications per Compute Capability. An L4 is reached through PCIe.
GPUS = {
    "a100": (
        Device("NVIDIA A100 80GB", 80e9, 2039e9, 312e12, 156e12, 600e9),
        Multiprocessors((8, 0), 108, 2048, 64, 164 * 1024, 40 * 2**20, 1.41),
    ),
    "h100": (
        Device("NVIDIA H100 80GB", 80e9, 3350e9, 989e12, 494e12, 900e9),
        Multiprocessors((9, 0), 132, 2048, 128, 228 * 1024, 50 * 2**20, 1.98),
    ),
    "h200": (
        Device("NVIDIA H200", 141e9, 4800e9, 989e12, 494e12, 900e9),
        Multiprocessors((9, 0), 132, 2048, 128, 228 * 1024, 50 * 2**20, 1.98),
    ),
    "l4": (
        Device("NVIDIA L4", 24e9, 300e9, 121e12, 60e12, 64e9),
        Multiprocessors((8, 9), 58, 1536, 128, 100 * 1024, 48 * 2**20, 2.04),
    ),
}
IN_A_HOST = ("1", "2", "4", "8")
IN_THE_CLOUD = {"v5litepod": ("v5e", 1), "v4": ("v4", 2), "v5p": ("v5p", 2)}  # kind, and what a number there counts
SHAPES = {kind: shapes for kind, (_, shapes) in TPUS.items()} | dict.fromkeys(GPUS, IN_A_HOST)
TOPOLOGIES = {f"{kind}:{shape}": (TPUS | GPUS)[kind][0] for kind, shapes in SHAPES.items() for shape in shapes}
ALONE = {  # so that libtpu asks nobody which TPU this is; any type will do
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # beside a training, which has the TPU
}


def described(name: str) -> Device:
    """A device of the topology called `name`, such as v5e:4x4 or h100:8, with the part of its memory that jax takes;
    UserError with the nearest topology if there is none."""
    if name not in TOPOLOGIES:
        raise UserError(f"There is no topology {name!r} to plan for. {_nearest(name)}")
    device = TOPOLOGIES[name]
    return device._replace(memory=device.memory * gpu_memory_fraction()) if _is_gpu(name) else device


def gpu_memory_fraction() -> float:
    """The part of a GPU's memory that jax takes."""
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):  # the second is the older one
        if given := os.environ.get(name):
            with contextlib.suppress(ValueError):
                if 0 < float(given) <= 1:
                    return float(given)
            raise UserError(f"{name} is {given!r}; expected a fraction such as 0.9.")
    return 0.75


def _is_gpu(name: str) -> bool:
    return name.partition(":")[0] in GPUS


def _nearest(name: str) -> str:
    """The topology of the same kind with the nearest number of chips, or all of that kind, or all kinds."""
    if ordered := re.fullmatch(r"(\w+)-(\d+)", name):  # as Google sells them
        kind, cores = IN_THE_CLOUD.get(ordered[1], (ordered[1], 1))
        name = f"{kind}:{max(int(ordered[2]) // cores, 1)}"
    kind, _, shape = name.partition(":")
    if kind not in SHAPES:
        return f"Expected one of {', '.join(SHAPES)}, and its shape, such as v5e:4x4 or h100:8."
    shapes, sides = SHAPES[kind], shape.split("x")
    known = f"Topologies of {kind} are {', '.join(f'{kind}:{other}' for other in shapes)}."
    if not all(side.isdigit() for side in sides):
        return known
    wanted = math.prod(map(int, sides))
    nearest = min(shapes, key=lambda other: abs(math.log(math.prod(map(int, other.split("x"))) / max(wanted, 1))))
    return f"Did you mean {f'{kind}:{nearest}'!r}? {known}"


def mesh_of(name: str) -> Mesh:
    """All devices of a topology along the axis `data`; they need not exist. UserError without their compiler."""
    described(name)
    try:
        devices = _gpus(name) if _is_gpu(name) else _tpus(name)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"The compiler that is installed cannot compile for {name}: {error}") from None
    assert jax.default_backend() == "cpu", "a plan computes nothing"
    return Mesh(np.array(devices).reshape(-1), ("data",), axis_types=(AxisType.Auto,))


def _tpus(name: str) -> Sequence[Any]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("Programs for TPUs are compiled by libtpu, which is not installed: pip install 'vae_jax[tpu]'")
    for variable, value in ALONE.items():
        os.environ.setdefault(variable, value)
    return topologies.get_topology_desc(platform="tpu", topology_name=name).devices


def _gpus(name: str) -> Sequence[Any]:
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        raise UserError(
            "Programs for GPUs are compiled by jax's CUDA plugin, which is not installed: pip install 'vae_jax[cuda12]'"
        )
    kind, _, count = name.partition(":")
    shape = f"1x1x{count}"  # slices x hosts x GPUs
    return topologies.get_topology_desc(
        platform="cuda", topology_name=shape, topology=shape, target_config=target_config(*GPUS[kind])
    ).devices


def target_config(device: Device, inside: Multiprocessors) -> str:
    """XLA's GpuTargetConfig, as the text of a protocol buffer."""
    major, minor = inside.capability
    return f"""
        platform_name: "CUDA"
        device_description_str: "{device.name}"
        dnn_version_info {{ major: 9 minor: 10 }}
        gpu_device_info {{
            cuda_compute_capability {{ major: {major} minor: {minor} }}
            core_count: {inside.number}
            fpus_per_core: {inside.units}
            threads_per_core_limit: {inside.threads}
            shared_memory_per_core: {inside.shared}
            shared_memory_per_block: {48 * 1024}
            shared_memory_per_block_optin: {inside.shared - 1024}
            l2_cache_size: {inside.cache}
            clock_rate_ghz: {inside.clock}
            memory_bandwidth: {device.bandwidth:.0f}
            device_memory_size: {device.memory:.0f}
            threads_per_warp: 32
            threads_per_block_limit: 1024
            block_dim_limit_x: {2**31 - 1}
            block_dim_limit_y: {2**16 - 1}
            block_dim_limit_z: {2**16 - 1}
            registers_per_core_limit: {2**16}
            registers_per_block_limit: {2**16}
        }}
    """
