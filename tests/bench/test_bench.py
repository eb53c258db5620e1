"""The benchmark's record, its comparisons with peers, and its error messages."""

import itertools
import json
import os
import stat
import sys

import jax
import numpy as np
import pytest
from helpers.checks import ROOT
from helpers.commands import assert_mistake, run
from helpers.products import mnist_classifier, mnist_decoder, mnist_encoder

from vae_jax.bench import peers
from vae_jax.bench.peers import PEERS, against_peer, peer_system, ratios_of
from vae_jax.cli import load_config
from vae_jax.compare.costs import cost_of, read_costs
from vae_jax.errors import UserError
from vae_jax.runtime import devices

SMOKE = "--config=configs/dfc_mnist.py:smoke"


def the_line(*arguments: str) -> dict:
    result = run("vae_jax.bench", *arguments)
    assert result.returncode == 0, result.stderr
    assert "train calls" in result.stderr or "batches" in result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_the_line_of_a_config(monkeypatch, tmp_path):
    """On the four devices of the tests, two steps per call, by oneDNN if available; GFLOP counted by hand, see
    test_efficiency.py."""
    library = devices.ONEDNN if jax.__version_info__ >= devices.THREADS_WELL else ""
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
    (tmp_path / "costs").write_text(json.dumps(record) + "\n")
    (cost,) = read_costs(tmp_path / "costs")
    assert cost_of(load_config(SMOKE.removeprefix("--config=")), [cost])["gflop_per_image"] == record["gflop_per_image"]
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
    """In a call of five steps of the article's training Python takes under 1 % of the time, and waiting for the next
    batch of digits in device memory under 2 %. A busy machine gets three tries."""
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
    """Three rounds against two layouts; the one with the faster median counts."""
    found = ratios_of([100.0, 90.0, 120.0], {"contiguous": [50.0, 100.0, 60.0], "channels_last": [80.0, 45.0, 75.0]})
    assert found == {
        "ratio_medians": {"contiguous": 2.0, "channels_last": 1.6},
        "layout": "channels_last",
        "ratios": [1.25, 2.0, 1.6],
        "ratio_median": 1.6,
        "ratio_quartiles": [1.425, 1.8],
    }


def program(path, body: str) -> str:
    """An executable in place of a Python; in `body`, `arguments` are its command-line arguments."""
    path.write_text(f"#!{sys.executable}\nimport json, sys\narguments = sys.argv[1:]\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


ANSWERS = """
layout = arguments[-1].partition("=")[2]
print(json.dumps({"version": "2.13"}), flush=True)
for line in sys.stdin:
    asked(layout, line)
    print({"contiguous": 0.5, "channels_last": 0.25}[layout] * int(line), flush=True)
"""


def test_ours_and_the_peer_in_turn(tmp_path, capsys):
    """All are stand-ins that record their calls. Every second call of ours takes twice as long."""
    asked, config = tmp_path / "asked", load_config(f"{ROOT}/configs/dfc_mnist.py")
    config.batch_size, config.steps_per_call = 128, 5
    note = f"def asked(*words): open({str(asked)!r}, 'a').write(' '.join(words).strip() + '\\n')\n"
    theirs = program(tmp_path / "theirs", note + "asked(*arguments)\n" + ANSWERS)
    times = itertools.cycle([1.0, 2.0])

    def prepare(prepared):
        assert prepared is config and len(asked.read_text().splitlines()) == 2  # the peers are ready

        def call() -> float:
            asked.write_text(asked.read_text() + "ours\n")
            return next(times)

        return call

    record = against_peer(config, "torch", theirs, 2, prepare)
    first, *_ = asked.read_text().splitlines()
    assert first == "-m tests.peers.torch_peer --system=dfc_mnist --batch_size=128 --layout=contiguous"
    turns = ["contiguous 5", "channels_last 5", "ours"]
    assert asked.read_text().splitlines()[2:] == (turns + turns[::-1]) * 2 + turns  # three rounds do not count
    ours, rates = 5 * 128 / np.array([2.0, 1.0]), {"contiguous": [256.0, 256.0], "channels_last": [512.0, 512.0]}
    assert record["images_per_second"] == rates | {"ours": ours.tolist()}
    assert record["layout"] == "channels_last" and record["ratios"] == [0.625, 1.25]
    said = {"peer": "torch", "peer_version": "2.13", "batch_size": 128, "steps_per_call": 5, "calls": 2}
    assert said.items() <= record.items() and record["versions"]["jax"] == jax.__version__
    text = "contiguous 256  channels_last 512  ours 640, 2.50 x contiguous, 1.25 x channels_last"
    assert f"round 2 of 2, images/s: {text}" in capsys.readouterr().err


def test_a_peer_that_fails(tmp_path):
    """At its start, silently, with a wrong answer, or when measured: the error shows its last line and what to do."""
    config = load_config(f"{ROOT}/configs/dfc_mnist.py")
    install = r"(?s)keras peer failed: .*keras_peer --system=dfc_mnist.*{}.*pip install -r tests/peers/requirements.txt"
    late = "print('{\"version\": \"3\"}', flush=True); input(); sys.exit('out of memory')"
    for body, words in (
        ("sys.exit('no module named keras')", "no module named keras"),
        ("", "its answer was ''"),
        ("print('a warning', flush=True); sys.stdin.read()", "its answer was 'a warning"),
        (late, "out of memory"),
    ):
        with pytest.raises(UserError, match=install.format(words)):
            against_peer(config, "keras", program(tmp_path / "theirs", body), 1, lambda config: lambda: 1.0)
    with pytest.raises(UserError, match=install.format("No such file")):
        against_peer(config, "keras", str(tmp_path / "nothing"), 1, lambda config: lambda: 1.0)


def test_peers_are_started_in_the_checkout():
    for name in PEERS:
        assert (peers.ROOT / "tests" / "peers" / f"{name}_peer.py").is_file()


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
        ([], ["--config=NAME or --config=FILE.py"]),
        ([SMOKE, "--part=steps", "--calls=20"], ["--part=steps", "all|step|input"]),
        ([SMOKE, "--config.batch_size=6"], ["multiple of the number of devices (4)"]),
        (["--config=configs/vae_mnist.py", "--peer=torch"], ["vae_mnist at 28x28 has no counterpart"]),
        (["--table=README.md"], ["cannot read README.md", "the line that --peer prints"]),
        (["--table=no.json"], ["cannot read no.json: ", "No such file"]),
    ],
)
def test_mistakes(arguments, words):
    result = run("vae_jax.bench", *arguments)
    assert_mistake(result, *words)
    assert not result.stdout
