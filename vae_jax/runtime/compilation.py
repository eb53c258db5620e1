"""Compiled programs that outlive their process: `compilation_cache`."""

from pathlib import Path

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from vae_jax.errors import UserError


def use_compilation_cache(folder: str) -> None:
    """From now on every program is looked for in `folder` before it is compiled, and kept there afterwards.

    An empty `folder` leaves jax as it is, which looks where JAX_COMPILATION_CACHE_DIR says. UserError where the folder
    cannot be made; one with a scheme, gs://BUCKET/DIR, is made by jax.
    """
    if not folder:
        return
    if "://" not in folder:
        path = Path(folder).expanduser().absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"compilation_cache: {path} cannot be made: {error}. Name another folder.") from None
        folder = str(path)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # by default 1: short ones are not kept
    reset_cache()  # jax asks once where the cache is, at the first program of the process
