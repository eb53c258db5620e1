"""Costs on any machine: operations per image, compilations, and when the loop waits for a device."""

import collections
import contextlib
import json
import os
import subprocess
import sys

import helpers.products as p
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.checks import ROOT

from vae_jax.cli import load_config
from vae_jax.config import image_shape
from vae_jax.evaluate import make_judgement
from vae_jax.experiment import make_experiment
from vae_jax.runs import progress
from vae_jax.state import init_state
from vae_jax.systems import SYSTEMS
from vae_jax.train import train
from vae_jax.train_step import make_train_step, to_float

# ---- operations --------------------------------------------------------------------------------------------------


def celeba() -> int:
    return p.trained(p.celeba_encoder()) + p.between(p.celeba_decoder())


def mnist() -> int:
    return p.trained(p.mnist_encoder()) + p.between(p.mnist_decoder())


def blur_vae() -> int:
    """And the kernel network, whose gradient does not reach the latents."""
    return mnist() + p.trained([5 * 1000, 1000 * 1000, 1000 * 11 * 11])


def vae_gan() -> int:
    """One image is encoded, two latents are decoded, three images are judged.

    From conv4 and from the logits back to the images, from the logits to the discriminator's weights as well. From
    there to the decoder's weights, and once more through the decoder to the encoder's.
    """
    encoder, decoder, discriminator = p.larsen_encoder(), p.larsen_decoder(), p.larsen_discriminator()
    judged = 3 * (3 * sum(discriminator) + sum(discriminator[:4]))
    return judged + 2 * (sum(decoder) + p.trained(decoder)) + p.trained(encoder)


def against_a_judge(discriminator: p.Network) -> int:
    """An image and its reconstruction are judged; back to the reconstruction, and for either to the weights."""
    return sum(discriminator) + 2 * p.trained(discriminator)


def deepsim() -> int:
    networks = p.trained(p.deepsim_encoder()) + p.between(p.deepsim_decoder()) + p.frozen(p.alexnet(64, 3))
    return networks + against_a_judge([*p.deepsim_discriminator(64), 256 * 512, 512 * 2])


def inversion() -> int:
    """Features [2, 2, 256] come from one AlexNet, the comparator is another; the discriminator sees them through dense
    layers of its own."""
    generator, alexnet, judge = p.deepsim_generator(), p.alexnet(96), p.deepsim_discriminator(96)
    embedding = p.trained([2 * 2 * 256 * 1024, 1024 * 512])
    networks = sum(alexnet) + p.trained(generator) + p.frozen(alexnet) + embedding
    return networks + against_a_judge([*judge, (256 + 512) * 512, 512 * 2])


def super_resolution() -> int:
    return p.trained(p.spatial_encoder()) + p.between(p.spatial_upscaler()) + p.frozen(p.vgg(64, (2, 2, 3)))


def kl_autoencoder() -> int:
    """Twice more to the weights of the last layer, for the adaptive weight."""
    last_layer = p.celeba_decoder()[-1]
    return celeba() + p.frozen(p.alexnet(64)) + against_a_judge(p.patchgan(64)) + 2 * last_layer


STEPS = {  # by config: the products of its step
    "vae_celeba": celeba,
    "dfc_mnist": lambda: mnist() + p.frozen(p.mnist_classifier()),
    "dfc_celeba": lambda: celeba() + p.frozen(p.vgg(64, (2, 2, 1))),
    "blur_vae_mnist": blur_vae,
    "vaegan_celeba": vae_gan,
    "deepsim_ae_stl10": deepsim,
    "deepsim_invert_alexnet:conv5,96": inversion,
    "sr_vae_pets": super_resolution,
    "kl_autoencoder:celeba": kl_autoencoder,
    "classifier_mnist": lambda: p.trained(p.mnist_classifier(dense=True)),
}


def published(name: str):
    """A config with untrained perceptual networks."""
    file, _, variant = name.partition(":")
    config = load_config(f"{ROOT}/configs/{file}.py:{variant}")
    config.backbone.weights = "random"
    if "inverted" in config:
        config.inverted.weights = "random"
    if "lpips" in config.terms:
        config.terms.lpips.net = "alex"  # VGG16 would dominate the count
    return config


def operations(config) -> float:
    """What XLA counts in a compiled train step, per image; its optimisers are gradient descent, at negligible cost."""
    experiment = make_experiment(config, image_shape(config), config.system == "classifier")
    system, key = experiment.system, jax.eval_shape(lambda: jax.random.key(0))
    optimizers = dict.fromkeys(system.rules, optax.sgd(1.0))
    seen = jax.eval_shape(to_float, experiment.seen)
    state = jax.eval_shape(lambda k, batch: init_state(system, optimizers, k, batch, ema=False), key, seen)
    step = jax.jit(make_train_step(system, optimizers, augment=experiment.augment))
    program = step.lower(state, jax.eval_shape(system.frozen), experiment.batch, key).compile()
    return program.cost_analysis()["flops"] / config.batch_size


@pytest.mark.parametrize("name", STEPS)
def test_operations_of_a_step(name):
    """At most a tenth above the hand count: no gradient to frozen weights, none through the features of targets, no
    second forward pass. At published widths and batches all that is elementwise is at most a few per cent."""
    counted, by_hand = operations(published(name)), 2 * STEPS[name]()
    print(f"{name}: {counted / 1e6:.1f} MFLOP per image, {by_hand / 1e6:.1f} by hand, ratio {counted / by_hand:.3f}")
    assert 0.95 * by_hand < counted < 1.1 * by_hand


def test_every_system_is_counted():
    assert {published(name).system for name in STEPS} == set(SYSTEMS)


# ---- compilations ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def compilations():
    """A list to which the name of every function is added that XLA compiles meanwhile."""
    names = []

    def listen(event: str, seconds: float, fun_name: str = "", **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", ["dfc_mnist", pytest.param("vaegan_mnist", marks=pytest.mark.slow)])
def test_every_function_is_compiled_once(name, smoke, tmp_path, monkeypatch):
    """In a run of eight steps, evaluated and saved twice; nothing is compiled after the first time."""
    config = smoke(name)
    config.update(steps=8, steps_per_call=1, eval_every=4, checkpoint_every=4)
    judged = progress.Progress.evaluation
    make_judgement.cache_clear()  # it is shared by all runs of a process
    with compilations() as names:
        monkeypatch.setattr(progress.Progress, "evaluation", lambda *a: judged(*a) or names.append("judged"))
        train(config.lock(), str(tmp_path / "run"))
    own = collections.Counter(names)
    functions = ("train_call", "init", "reconstruct", "judge", "draw")
    assert {name: own[f"jit({name})"] for name in functions} == dict.fromkeys(functions, 1)
    assert own["jit(<lambda>)"] == 3  # the key, the training batches, the evaluation batches
    assert names[names.index("judged") :] == ["judged", "judged"]


# ---- waiting for devices -----------------------------------------------------------------------------------------


def test_the_host_reads_nothing_between_log_steps(smoke, tmp_path, monkeypatch):
    """Twelve calls, a line after six of them. A call waits for the last but two at most, which keeps few in flight.

    CPU arrays pass every transfer guard, so that reading is watched where jax.Array makes its value an array of the
    host's: over several devices nothing goes another way. The tenth call is followed by a reading of ours, which shows
    that one would be seen.
    """
    events, calls = [], []
    array = type(jnp.zeros(()))
    value, block, add, check = array._value, jax.block_until_ready, progress.Progress.add, progress.Progress.check

    def watched_block(tree):
        (call,) = [i for i, scalars in enumerate(calls) if scalars is tree] or [None]
        events.append("wait" if call is None else f"wait for {len(calls) - 1 - call} before")
        return block(tree)

    def watched_add(self, step, scalars):
        calls.append(scalars)
        events.append("call")
        add(self, step, scalars)
        if step == 9:
            assert float(scalars["finite"][0]) == 1

    def watched_check(self):
        events.append("check")
        check(self)
        events.append("checked")

    monkeypatch.setattr(array, "_value", property(lambda self: events.append("read") or value.fget(self)))
    monkeypatch.setattr(array, "block_until_ready", lambda self: events.append("wait") or block([self])[0])
    monkeypatch.setattr(jax, "block_until_ready", watched_block)
    monkeypatch.setattr(progress.Progress, "add", watched_add)
    monkeypatch.setattr(progress.Progress, "check", watched_check)
    config = smoke("vae_mnist")
    config.update(steps=12, steps_per_call=1, log_every=6, eval_every=12, checkpoint_every=12)
    train(config.lock(), str(tmp_path / "run"))

    waits = ["call", "wait for 2 before"]
    first, second = events.index("check"), events.index("checked")
    assert events[events.index("call") : first] == ["call", "call"] + 4 * waits
    after = events[second + 1 :]
    assert after[: after.index("check")] == ["call", "call", *waits, *waits, "read", *waits, *waits]


# ---- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the resident memory")
def test_memory_is_flat_over_2000_steps(tmp_path):
    """Of a process of its own. Were the 16 KiB of each batch kept, 1,000 steps would add 16 MB.

    With one heap for all threads: with many, it goes up and down by 20 MB, which of them a thread takes being luck.
    """
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "resident.py"), str(tmp_path / "run")]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MALLOC_ARENA_MAX": "1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    steps, megabytes, arrays = np.transpose(json.loads(run.stdout.splitlines()[-1]))
    assert list(steps) == list(range(100, 2_001, 100)) and np.ptp(arrays) == 0
    assert np.median(megabytes[10:]) - np.median(megabytes[:10]) < 2, megabytes  # what is given back is no leak
