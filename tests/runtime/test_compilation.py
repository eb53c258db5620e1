"""The cache of compiled programs: a second process compiles nothing and gets the same numbers."""

import json
import subprocess
import sys

import jax
import pytest
from helpers.checks import ROOT
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from vae_jax.errors import UserError
from vae_jax.runtime.compilation import use_compilation_cache

COUNT = """
import collections, json, sys
import jax
from vae_jax.cli import load_config
from vae_jax.runtime.compilation import use_compilation_cache
from vae_jax.train import train

events, programs, workdir = collections.Counter(), *sys.argv[1:]
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))
{}
print(json.dumps({{"result": result, "events": events}}))
"""
ONE_FUNCTION = """
use_compilation_cache(programs)
result = float(jax.jit(lambda x: x.T @ x)(jax.numpy.arange(4.0)))
"""
WHOLE_RUN = """
config = load_config("configs/vae_mnist.py:smoke")
config.compilation_cache = programs
result = train(config.lock(), workdir)
"""
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def restored():
    """Yields the settings of jax's cache, and restores them afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield before
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.mark.parametrize(
    ("what", "count"), [(ONE_FUNCTION, 2), pytest.param(WHOLE_RUN, 8, marks=pytest.mark.slow)], ids=["function", "run"]
)
def test_a_second_process_compiles_nothing(what, count, tmp_path):
    programs = tmp_path / "programs"

    def run(name: str) -> dict:
        command = [sys.executable, "-c", COUNT.format(what), str(programs), str(tmp_path / name)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    first = run("first")
    files = {path.name for path in programs.iterdir()}
    second = run("second")
    assert first["events"]["cache_misses"] >= count
    assert second["events"]["cache_hits"] == second["events"]["compile_requests_use_cache"] >= count
    assert "cache_misses" not in second["events"]
    assert {path.name for path in programs.iterdir()} == files
    assert second["result"] == first["result"]


def test_every_program_is_kept_in_the_folder(restored, tmp_path, monkeypatch):
    """In a folder that does not exist yet, relative to the current one; quickly compiled programs too."""
    monkeypatch.chdir(tmp_path)
    use_compilation_cache("of/programs")
    jax.jit(lambda x: x + 1)(1.0).block_until_ready()
    assert [path for path in (tmp_path / "of" / "programs").iterdir() if path.name.endswith("-cache")]


def test_no_folder_changes_nothing(restored):
    use_compilation_cache("")
    assert {name: getattr(jax.config, name) for name in SETTINGS} == restored


def test_a_folder_that_cannot_be_created(restored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"compilation_cache: .*file/programs cannot be created: .*Choose another folder"
    ):
        use_compilation_cache(str(tmp_path / "file" / "programs"))
    assert {name: getattr(jax.config, name) for name in SETTINGS} == restored
