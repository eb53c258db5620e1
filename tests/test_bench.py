"""The benchmark's one line, the pairs of its comparisons, and what it says of mistakes."""

import json
import os
import stat
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from products import mnist_classifier, mnist_decoder, mnist_encoder
from test_cli import assert_mistake, run

from vae_jax import cli
from vae_jax.bench_peers import PEERS, against_peer, compare, peer_system, without_flags
from vae_jax.cli import load_config
from vae_jax.errors import UserError

SMOKE = "--config=configs/dfc_mnist.py:smoke"


def the_line(*arguments: str) -> dict:
    result = run("vae_jax.bench", *arguments)
    assert result.returncode == 0, result.stderr
    assert "train calls" in result.stderr or "batches" in result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_the_line_of_a_config(monkeypatch):
    """On the four devices of the tests, two steps in a call, by oneDNN where there is; GFLOP by hand count, see
    test_efficiency.py."""
    library = cli.ONEDNN if jax.__version_info__ >= cli.THREADS_WELL else ""
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} {library}")
    record = the_line(SMOKE)
    assert (record["config"], record["system"], record["part"], record["data"]) == (
        "dfc_mnist",
        "vae",
        "all",
        "synthetic",
    )
    assert (record["batch_size"], record["image_shape"], record["steps_per_call"]) == (8, [28, 28, 1], 2)
    for key in (
        "images_per_second", "ms_per_step", "gflop_per_image", "peak_share", "matmul_gflop_per_second", "matmul_size",
        "compile_seconds", "peak_memory_bytes", "host_share", "input_images_per_second", "data_wait_share",
    ):  # fmt: skip
        assert record[key] > 0, key
    for key in ("peak_share", "host_share", "data_wait_share"):
        assert record[key] < 1, key
    assert list(record["split"]) == ["encode", "decode", "perceptual", "backward", "optimiser"]
    assert all(record["split"][part] > 0 for part in ("encode", "decode", "optimiser"))
    assert all(record["split"][part] >= 0 for part in ("perceptual", "backward"))  # differences
    assert record["device"] and record["devices"] == 4 and record["calls"] == 20
    assert {"jax", "jaxlib", "flax", "optax", "python"} <= set(record["versions"])
    assert (record["commit"] is None) == (not (ROOT / ".git").exists())
    np.testing.assert_allclose(record["images_per_second"], 8 / record["ms_per_step"] * 1e3, rtol=1e-3)
    share = record["gflop_per_image"] * record["images_per_second"] / record["matmul_gflop_per_second"]
    np.testing.assert_allclose(record["peak_share"], share, rtol=1e-3)
    encoder, others = mnist_encoder(), [*mnist_decoder(), *mnist_classifier()]
    by_hand = 2 * (3 * sum(encoder) - encoder[0] + 3 * sum(others)) / 1e9
    assert by_hand < record["gflop_per_image"] < 1.3 * by_hand


@pytest.mark.slow
def test_no_step_waits_for_the_host_or_for_data(monkeypatch):
    """Of a call of five steps of the article's training Python takes under 1 %, and 2 % go by until the next batch is
    there, of digits in device memory. A busy machine has three tries."""
    monkeypatch.delenv("XLA_FLAGS")
    for _ in range(3):
        record = the_line("--config=configs/dfc_mnist.py:quick", "--data=real")
        if record["host_share"] < 0.01 and record["data_wait_share"] < 0.02:
            return
    pytest.fail(f"the host took {record['host_share']:.1%}, waiting for data {record['data_wait_share']:.1%}")


def test_the_batches_of_a_data_set_alone():
    record = the_line(SMOKE, "--data=real", "--part=input")
    assert record["input_images_per_second"] > 0 and record["data"] == "real"
    assert record["images_per_second"] is record["split"] is record["data_wait_share"] is None


def test_ratios_by_hand():
    """Three rounds against two layouts, of which the faster one counts."""
    found = compare([100.0, 90.0, 120.0], {"contiguous": [50.0, 100.0, 60.0], "channels_last": [80.0, 45.0, 50.0]})
    assert found == {
        "ratios_by_layout": {"contiguous": [2.0, 0.9, 2.0], "channels_last": [1.25, 2.0, 2.4]},
        "ratios": [1.25, 0.9, 2.0],
        "ratio_median": 1.25,
        "ratio_minimum": 0.9,
        "ratio_maximum": 2.0,
    }
    assert compare([3.0], {"keras": [2.0]})["ratio_median"] == 1.5


def program(path, body: str) -> str:
    """An executable that stands in for a Python; `arguments` are those it was called with."""
    path.write_text(f"#!{sys.executable}\nimport json, sys\narguments = sys.argv[1:]\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_ours_and_the_peer_in_turn(tmp_path, monkeypatch, capsys):
    """Both are stand-ins that write down how they were called: the second round of ours is twice as fast."""
    calls = tmp_path / "calls"
    note = f"calls = open({str(calls)!r}, 'a+'); calls.write(json.dumps(arguments) + '\\n'); calls.seek(0)\n"
    ours = note + "rate = 100.0 * sum('vae_jax.bench' in line for line in calls)\nprint('noise')\n"
    rest = {"steps_per_call": 5, "device": "cpu", "devices": 1, "versions": {}, "commit": None}
    ours += f"print(json.dumps({{'images_per_second': rate, **{rest!r}}}))"
    theirs = note + "layout = arguments[-1].partition('=')[2]\n"
    theirs += (
        "print(json.dumps({'images_per_second': {'contiguous': 50, 'channels_last': 80}[layout], 'version': '2.13'}))"
    )
    ours, theirs = program(tmp_path / "ours", ours), program(tmp_path / "theirs", theirs)
    passed_on = ["--config=configs/dfc_mnist.py", "--config.batch_size=128", "--calls=30"]
    monkeypatch.setattr(sys, "argv", ["bench", "--peer", "torch", *passed_on, "--rounds=2", "--data=synthetic"])
    monkeypatch.setattr(sys, "executable", ours)
    config = load_config(f"{ROOT}/configs/dfc_mnist.py")
    config.batch_size = 128
    record = against_peer(config, "torch", theirs, 2, 30)
    assert rest.items() <= record.items()
    assert record["ratios"] == [1.25, 2.5] and record["ratio_median"] == 1.875
    assert record["images_per_second"] == {"contiguous": [50, 50], "channels_last": [80, 80], "ours": [100, 200]}
    assert (record["peer"], record["peer_version"], record["batch_size"], record["rounds"]) == ("torch", "2.13", 128, 2)
    asked = ["-m", "tests.peers.torch_peer", "--system=dfc_mnist", "--batch_size=128", "--calls=30"]
    expected = [[*asked, f"--layout={layout}"] for layout in PEERS["torch"]]
    expected += [["-m", "vae_jax.bench", *passed_on, "--part=step"]]
    assert [json.loads(line) for line in calls.read_text().splitlines()] == 2 * expected
    assert "round 2 of 2, images/s: contiguous 50  channels_last 80  ours 200" in capsys.readouterr().err


def test_flags_that_are_not_passed_on():
    given = ["--a=1", "--peer", "torch", "--b", "--peer=x", "-part=y", "--rounds=3"]
    assert without_flags(given, ("peer", "part")) == ["--a=1", "--b", "--rounds=3"]


def test_a_peer_that_fails(tmp_path):
    config = load_config(f"{ROOT}/configs/dfc_mnist.py")
    install = r"(?s)keras peer failed: .*keras_peer --system=dfc_mnist.*{}.*pip install -r tests/peers/requirements.txt"
    for body, words in (("sys.exit('no module named keras')", "no module named keras"), ("", "printed no record")):
        with pytest.raises(UserError, match=install.format(words)):
            against_peer(config, "keras", program(tmp_path / "theirs", body), 1, 20)
    with pytest.raises(UserError, match=install.format("No such file")):
        against_peer(config, "keras", str(tmp_path / "nothing"), 1, 20)


def test_configs_with_a_peer():
    systems = {"dfc_mnist": "dfc_mnist", "dfc_celeba": "dfc_celeba", "vaegan_celeba": "vae_gan"}
    for name, system in systems.items():
        assert peer_system(load_config(f"{ROOT}/configs/{name}.py")) == system
    for name in ("vae_mnist", "dfc_celeba.py:345", "dfc_celeba.py:128", "vaegan_celeba.py:smoke"):
        file, _, variant = name.partition(".py")
        with pytest.raises(UserError, match=r"no counterpart .*dfc_celeba_123 \(64x64\)"):
            peer_system(load_config(f"{ROOT}/configs/{file}.py{variant}"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--config=configs/NAME.py"]),
        ([SMOKE, "--part=steps", "--calls=20"], ["--part=steps", "all|step|input"]),
        ([SMOKE, "--config.batch_size=6"], ["multiple of the 4 devices"]),
        (["--config=configs/vae_mnist.py", "--peer=torch"], ["vae_mnist at 28x28 has no counterpart"]),
        (["--table=README.md"], ["cannot read README.md", "the line that --peer prints"]),
        (["--table=no.json"], ["cannot read no.json: ", "No such file"]),
    ],
)
def test_mistakes(arguments, words):
    result = run("vae_jax.bench", *arguments)
    assert_mistake(result, *words)
    assert not result.stdout
