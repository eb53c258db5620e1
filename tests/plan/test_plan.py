"""Plans: what is made of a compiled program, and real ones where the TPU's compiler is."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.checks import ROOT

from vae_jax.errors import UserError
from vae_jax.plan.compiled import estimate, too_large
from vae_jax.plan.fit import TRIES, largest_that_fits
from vae_jax.plan.page import page, size, table
from vae_jax.plan.topologies import GIB, GPUS, TPUS, described, mesh_of, target_config

RECORD = {
    "config": "dfc_celeba", "topology": "v5e:4x4", "device": "TPU v5e", "devices": 16, "batch_size": 512,
    "dtype": "bfloat16", "backbone_dtype": "float32", "remat": True, "accumulate": 1, "shard_state": False,
    "streamed": False,
    "memory": {"limit": 16 * GIB, "state": 12 * 2**20, "frozen": 2**20, "held": 0, "batch": 2**10,
               "arrays": 15 * 2**20 + 2**10, "temporaries": 2**30,
               "program": 2**20, "total": 1.5 * GIB, "fits": True},
    "compile_seconds": 12.3, "evaluation_compile_seconds": 4.5,
    "evaluation": {"arrays": 2**21, "beside": 28 * 2**20, "temporaries": 2**20, "program": 2**20, "total": 2**25,
                   "fits": True},
    "gflop_per_image": 2.987, "traffic_per_image": 160 * 2.0**20, "padding_per_image": 40 * 2.0**20,
    "collectives": {"all-reduce": {"count": 15, "bytes": 2**23}},
    "estimate": {"ms": {"arithmetic": 0.485, "memory traffic": 6.21, "the network": 0.08}, "ms_per_step": 6.21,
                 "peaks": {"arithmetic": 197e12, "memory traffic": 819e9, "the network": 200e9},
                 "bound_by": "memory traffic", "images_per_second": 82447.0},
}  # fmt: skip


def plan(*arguments: str, code: int = 0) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vae_jax.plan", *arguments]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


# ---- what needs no compiler --------------------------------------------------------------------------------------


def test_peaks_of_a_gpu(monkeypatch):
    """Of its memory jax takes three quarters, or what is said; float32 products are TF32's."""
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    assert described("h100:8").memory == 60e9 and described("h100:8").float32_products == 494e12
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    assert described("h100:1").memory == 72e9
    for wrong in ("half", "0", "2", "nan"):
        monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", wrong)
        with pytest.raises(UserError, match=f"XLA_CLIENT_MEM_FRACTION is '{wrong}'"):
            described("l4:1")
    assert "core_count: 58" in target_config(*GPUS["l4"]) and "device_memory_size: 24000000000" in target_config(
        *GPUS["l4"]
    )


def test_programs_that_are_too_large():
    """The words of libtpu 0.0.52."""
    words = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (50.36G) exceeds available HBM (15.75G). HLO module: jit_train_call."
    )
    assert too_large(words) == 50.36 * GIB and too_large("INTERNAL: something else") is None


def test_the_estimate_by_hand():
    """197 TFLOP/s, 819 GB/s and 200 GB/s: 1 ms of products, 2 of memory, and a reduction over four devices."""
    exchanged = {"all-reduce": {"count": 1, "bytes": 10**8}, "all-gather": {"count": 1, "bytes": 10**8}}
    found = estimate(197e9, 2 * 819e6, exchanged, 4, 197e12, described("v5e:2x2"))
    np.testing.assert_allclose([*found["ms"].values()], [1, 2, 3e8 * 3 / 4 / 200e9 * 1e3])
    assert found["bound_by"] == "memory traffic" and found["ms_per_step"] == found["ms"]["memory traffic"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5e:3x3", "Did you mean 'v5e:2x4'?"),
        ("v4:4x4", "Did you mean 'v4:2x2x4'?"),
        ("h100:6", "Did you mean 'h100:8'?"),
        ("h100", "Topologies of h100 are h100:1, h100:2"),
        ("v5litepod-16", "Did you mean 'v5e:4x4'?"),
        ("v4-8", "Did you mean 'v4:2x2x1'?"),
        ("gpu", "one of v4, v5e, v5p, v6e, a100, h100"),
        ("v7:2x2", "one of v4, v5e, "),
    ],
)
def test_topologies_that_do_not_exist(name, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        mesh_of(name)


@pytest.mark.parametrize(
    ("bytes_of", "largest"),
    [
        (lambda size: 1e9 + 1e7 * size, 1496),  # linear: the first guess
        (lambda size: 1e9 + 1e7 * size + 2e3 * size**2, 1208),
        (lambda size: 1.59e10 + 1e7 * size, 8),
        (lambda size: 2e10 + 1e7 * size, None),
    ],
)
def test_the_largest_batch_with_few_compilations(bytes_of, largest):
    tried = []

    def plan_of(size: int) -> dict:
        tried.append(size)
        return {"batch_size": size, "memory": {"total": bytes_of(size), "fits": bytes_of(size) < 1.6e10}}

    found = largest_that_fits(plan_of, 64, 8, 1.6e10)
    assert len(tried) == len(set(tried)) <= TRIES and all(size % 8 == 0 for size in tried)
    if largest is None:
        assert not found["memory"]["fits"]
    else:
        assert found["memory"]["fits"] and found["batch_size"] == largest


def test_pages_and_tables():
    text = page(RECORD)
    for words in (
        "dfc_celeba on v5e:4x4 (16 x TPU v5e): 512 images a step, 32 on each device; bfloat16, backbone float32, remat",
        "1.5 GiB of 16 GiB, fits: state 12 MiB, frozen weights 1 MiB, batch 1 KiB, temporaries 1 GiB, program 1 MiB, "
        "padding and results 2 MiB",
        "fits: temporaries 1 MiB, program 1 MiB, weights and batch 2 MiB, what training holds 28 MiB",
        "2.99 GFLOP, 160 MiB to and from memory, 25% of it padding",
        "8 MiB by 15 all-reduces", "82,447 images/s, bound by memory traffic",
        "0.485 ms by arithmetic, 6.21 ms by memory traffic", "published 197 TFLOP/s, 819 GB/s and 200 GB/s",
    ):  # fmt: skip
        assert words in text, text
    assert "streamed: more than" in page(RECORD | {"streamed": True})
    assert "the launches of 1,234 kernels" in page(RECORD | {"kernels": 1234})
    too_large = {**RECORD, "memory": {"limit": 16 * GIB, "state": 12, "total": 20 * GIB, "fits": False}}
    too_large.pop("estimate")
    assert "20 GiB of 16 GiB, DOES NOT FIT" in page(too_large)
    header, rows = table([RECORD, too_large])
    assert len(header) == len(rows[0]) == len(rows[1]) and rows[1][4] == "20 GiB of 16 GiB"
    assert [size(n) for n in (0, 1023, 2**20, 1.5 * 2**40)] == ["0 B", "1023 B", "1 MiB", "1,536 GiB"]


def test_mistakes_and_tables_through_the_command(tmp_path):
    for arguments, words in (
        (("--config=vae_mnist",), "Name a config and a topology"),
        (("--config=vae_mnist", "--topology=v5e:3x3"), "There is no topology 'v5e:3x3'"),
        (("--config=vae_mnist", "--topology=v5e:2x2", "--compare=remat"), "'remat' in 'remat' sets nothing"),
        (("--config=vae_mnist", "--topology=v5e:2x2", "--compare=dtype=half"), "dtype is 'half'"),
        (("--config=vae_mnist", "--topology=v5e:2x2", "--images=lots"), "--images is 'lots'; expected a whole number."),
        ((f"--table={tmp_path}/no.jsonl",), "--table cannot read"),
        ((f"--table={tmp_path}/no.jsonl", "--topology=v5e:2x2"), "leave out --config and --topology"),
    ):
        assert words in plan(*arguments, code=2).stderr
    (tmp_path / "plans.jsonl").write_text(json.dumps(RECORD) + "\n" + json.dumps(RECORD) + "\n")
    assert plan(f"--table={tmp_path}/plans.jsonl").stdout.count("| dfc_celeba | v5e:4x4 | 512 |") == 2


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_the_compiler():
    assert "pip install 'vae_jax[tpu]'" in plan("--config=vae_mnist", "--topology=v5e:2x2", code=2).stderr


# ---- what does ---------------------------------------------------------------------------------------------------


needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra tpu")


@needs_libtpu
def test_a_plan_for_a_tpu_slice():
    """vae_mnist on four devices: one reduction of gradients and of the means of terms, no activation travels;
    parameters and RMSprop's moments in memory; the arithmetic that XLA counts for a CPU, to a tenth; hardly more
    traffic than that of the update, as the activations of 16 images stay on the chip, in whatever precision."""
    flags = ("--config=vae_mnist", "--config.batch_size=64", "--topology=v5e:2x2", "--json", "--images=60000")
    lines = plan(*flags, "--compare=dtype=bfloat16", "--compare=shard_state=True accumulate=2").stdout.splitlines()
    whole, half, parts = map(json.loads, lines)
    params = 588_459
    assert whole["memory"]["state"] == pytest.approx(2 * 4 * params, abs=100)
    assert whole["memory"]["held"] == 60000 * 28 * 28 // 4 and whole["memory"]["batch"] == 64 * 28 * 28 // 4
    assert parts["memory"]["state"] < 0.3 * whole["memory"]["state"]
    assert parts["gflop_per_image"] == pytest.approx(0.126, rel=0.01)
    memory = whole["memory"]
    assert memory["fits"] and memory["arrays"] >= memory["state"] + memory["batch"]
    assert memory["total"] == sum(memory[part] for part in ("arrays", "held", "temporaries", "program"))
    assert whole["collectives"].keys() == {"all-reduce"} and whole["collectives"]["all-reduce"]["count"] == 1
    assert whole["collectives"]["all-reduce"]["bytes"] == pytest.approx(4 * params, rel=1e-3)
    assert whole["gflop_per_image"] == pytest.approx(0.123, rel=0.1)
    assert 5 * 4 * params < 16 * whole["traffic_per_image"] < 8 * 4 * params
    assert 16 * whole["padding_per_image"] < 0.5 * 16 * whole["traffic_per_image"]
    assert half["traffic_per_image"] == pytest.approx(whole["traffic_per_image"], rel=0.05)
    assert half["dtype"] == "bfloat16" and half["memory"]["state"] == whole["memory"]["state"]


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs the extra cuda12")
def test_a_plan_for_gpus():
    """vae_mnist on four H100s: the state by its shapes, one reduction, and no less traffic than one pass over it."""
    flags = ("--config=vae_mnist", "--config.batch_size=64", "--topology=h100:4", "--json", "--images=60000")
    whole, half = map(json.loads, plan(*flags, "--compare=dtype=bfloat16").stdout.splitlines())
    params = 588_459
    assert whole["memory"]["state"] == pytest.approx(2 * 4 * params, abs=100)
    assert whole["memory"]["held"] == 60000 * 28 * 28 // 4 and whole["memory"]["limit"] == 60e9
    assert whole["collectives"].keys() == {"all-reduce"} and whole["gflop_per_image"] == pytest.approx(0.126, rel=0.01)
    assert whole["collectives"]["all-reduce"]["bytes"] == pytest.approx(4 * params, rel=1e-3)
    assert whole["traffic_per_image"] * 16 > 5 * 4 * params and whole["kernels"] > 50
    assert half["traffic_per_image"] < 0.9 * whole["traffic_per_image"]
    assert half["estimate"]["peaks"]["arithmetic"] == 2 * whole["estimate"]["peaks"]["arithmetic"] + 1e12


@needs_libtpu
def test_every_slice_is_one_that_the_compiler_knows():
    for kind, (_, shapes) in TPUS.items():
        for shape in shapes:
            chips = np.prod([int(side) for side in shape.split("x")])
            assert mesh_of(f"{kind}:{shape}").size == chips * (2 if kind == "v4" else 1)
