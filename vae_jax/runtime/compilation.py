"""The persistent compilation cache, `compilation_cache`, and the platform that programs are compiled for."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from vae_jax.errors import UserError
from vae_jax.paths import local_path
from vae_jax.runtime.devices import uses_onednn

NOT_KEPT = (
    "compilation_cache: compiled programs are not kept, because those with oneDNN cannot be saved; a training as long "
    "as this one gains more from its faster steps"
)


def use_compilation_cache(folder: str) -> None:
    """From now on, loads programs from `folder` and saves newly compiled ones there.

    An empty `folder` keeps jax's setting, JAX_COMPILATION_CACHE_DIR. With oneDNN no program is kept, which is said.
    UserError if the folder cannot be created. jax itself creates folders with a scheme, such as gs://BUCKET/DIR.
    """
    if uses_onednn() and (folder or jax.config.values["jax_compilation_cache_dir"]):
        jax.config.update("jax_enable_compilation_cache", False)  # each attempt to save one would be a warning
        reset_cache()
        if jax.process_index() == 0:
            print(NOT_KEPT, flush=True)
        return
    if not folder:
        return
    if "://" not in folder:
        path = local_path(folder).absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"compilation_cache: {path} cannot be created: {error}. Choose another folder.") from None
        folder = str(path)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # default 1: quick compilations are not saved
    reset_cache()  # jax reads the folder only once, at the first compilation of the process


_TARGET: ContextVar[tuple[str, int] | None] = ContextVar("target", default=None)


@contextlib.contextmanager
def compiling_for(platform: str, devices: int = 1) -> Iterator[None]:
    """Traces programs for so many devices of a `platform`, such as cpu, gpu or tpu, instead of this process's."""
    token = _TARGET.set((platform, devices))
    try:
        yield
    finally:
        _TARGET.reset(token)


def target_platform() -> str:
    """The platform that a program traced now is compiled for: that of `compiling_for`, or of this process's devices."""
    target = _TARGET.get()
    return target[0] if target else jax.default_backend()


def target_devices() -> int:
    """How many devices a batch is split over in a program traced now: as `compiling_for` says, or one."""
    target = _TARGET.get()
    return target[1] if target else 1
