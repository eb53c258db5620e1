"""CPUs as devices: XLA's libraries, the number of devices, and freed memory.

Nothing here imports jax: call it before the first use of a device.
"""

import ctypes
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

FEW_CORES = 4  # up to this many, each may become a device, and all share one heap
SMALLEST_SHARE = 8  # images of a batch per core
THREADS_WELL = (0, 12)  # first jax whose convolutions on one device use several cores well
ONEDNN = "--xla_cpu_use_onednn=true --xla_cpu_experimental_onednn_custom_call=true"  # a library for x86
SHORT = 2**24  # pixels up to which a training ends sooner with kept programs than with oneDNN (docs/speed.md)
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of mallopt(3)


def initialise(trainings: Sequence[ConfigDict] = ()) -> None:
    """Lets XLA use oneDNN, unless programs are to be kept, and keeps jax up to 0.10.2 from deadlocking with more
    devices than cores.

    If XLA_FLAGS sets the number of CPU devices, XLA_FLAGS stays unchanged. Call it again once it is known what will be
    trained.
    """
    given = os.environ.get("XLA_FLAGS", "").removesuffix(ONEDNN).rstrip()
    if "host_platform_device_count" in given:
        os.environ.setdefault("PJRT_NPROC", str(max(32, os.cpu_count() or 1)))
    elif _threads_well() and "onednn" not in given and (sys.platform, platform.machine()) == ("linux", "x86_64"):
        os.environ["XLA_FLAGS"] = given if _keep_programs(trainings) else f"{given} {ONEDNN}".strip()


def _keep_programs(trainings: Sequence[ConfigDict]) -> bool:
    """Whether there is a folder for compiled programs, and no training so long that oneDNN saves more time."""
    folders = [os.environ.get("JAX_COMPILATION_CACHE_DIR"), *(config.compilation_cache for config in trainings)]
    pixels = [config.steps * config.batch_size * config.image_size**2 for config in trainings]
    return any(folders) and max(pixels, default=0) <= SHORT


def uses_onednn() -> bool:
    """Whether XLA_FLAGS lets XLA call oneDNN, in programs that cannot be kept."""
    return "onednn_custom_call=true" in os.environ.get("XLA_FLAGS", "")


def _threads_well() -> bool:
    return tuple(map(int, importlib.metadata.version("jax").split(".")[:2])) >= THREADS_WELL


def keep_freed_memory() -> None:
    """Keeps the memory that one train step on CPU frees for the next step.

    By default glibc returns large blocks to the system, which then zeroes every page again for the next step. On few
    cores all threads share one heap; separate heaps would each grow to the size of all. Does nothing with other C
    libraries.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
        if _cores() <= FEW_CORES:
            libc.mallopt(M_ARENA_MAX, 1)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(batch_sizes: Sequence[int]) -> None:
    """With jax before 0.12, makes each of a few CPU cores a device with its own share of every batch, which is faster
    there than one device with several threads.

    Does nothing if XLA_FLAGS sets the number of devices, a batch cannot be split, or the shares are too small.
    """
    if _threads_well():
        return
    given, cores = os.environ.get("XLA_FLAGS", ""), _cores()
    splits = all(size % cores == 0 and size // cores >= SMALLEST_SHARE for size in batch_sizes)
    if "host_platform_device_count" in given or not 1 < cores <= FEW_CORES or not splits:
        return
    flags = (given, f"--xla_force_host_platform_device_count={cores}", "--xla_cpu_multi_thread_eigen=false")
    os.environ["XLA_FLAGS"] = " ".join(filter(None, flags))
    initialise()
