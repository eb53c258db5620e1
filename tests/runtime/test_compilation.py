"""The cache of compiled programs: a second process compiles nothing and gets the same numbers, if any are kept."""

import json
import os
import subprocess
import sys

import jax
import pytest
from helpers.checks import ROOT
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from vae_jax.errors import UserError
from vae_jax.runtime.compilation import use_compilation_cache
from vae_jax.runtime.devices import ONEDNN

COUNT = """
import collections, json, sys
import jax
from vae_jax.runtime.compilation import use_compilation_cache

events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))
use_compilation_cache(sys.argv[1])
result = float(jax.jit(lambda x: x.T @ x)(jax.numpy.arange(4.0)))
print(json.dumps({"result": result, "events": events}))
"""
QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # compiled
SETTINGS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def restored():
    """Yields the settings of jax's cache, and restores them afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield before
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def test_a_second_process_compiles_nothing(tmp_path):
    programs = tmp_path / "programs"

    def run() -> dict:
        command = [sys.executable, "-c", COUNT, str(programs)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    first = run()
    files = {path.name for path in programs.iterdir()}
    second = run()
    assert first["events"]["cache_misses"] >= 2
    assert second["events"]["cache_hits"] == second["events"]["compile_requests_use_cache"] >= 2
    assert "cache_misses" not in second["events"]
    assert {path.name for path in programs.iterdir()} == files
    assert second["result"] == first["result"]


def test_the_command_keeps_its_programs(tmp_path):
    """Those with convolutions too, which oneDNN's calls would make impossible; and nothing is said about it."""
    programs = tmp_path / "programs"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}

    def run(name: str) -> tuple[str, set[str]]:
        command = [
            sys.executable, "-m", "vae_jax.main", "--config=vae_mnist:smoke", f"--workdir={tmp_path / name}",
            f"--config.compilation_cache={programs}", "--config.steps=2",
        ]  # fmt: skip
        environment["XLA_FLAGS"] = QUICKLY  # one device, as users have
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and "persistent compilation cache" not in done.stderr, done.stderr
        assert "compilation_cache" not in done.stdout
        metrics = json.loads((tmp_path / name / "eval" / "metrics.json").read_text())
        return metrics["state_digest"], {path.name for path in programs.iterdir() if path.name.endswith("-cache")}

    first, kept = run("first")
    assert {"jit_train_call", "jit_reconstruct"} <= {name.rpartition("-")[0].rpartition("-")[0] for name in kept}
    assert run("second") == (first, kept)


def test_with_onednn_nothing_is_kept_and_this_is_said(restored, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", ONEDNN)
    use_compilation_cache(str(tmp_path / "programs"))
    assert "compiled programs are not kept" in capsys.readouterr().out
    jax.jit(lambda x: x + 2)(1.0).block_until_ready()
    assert not (tmp_path / "programs").exists()


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
