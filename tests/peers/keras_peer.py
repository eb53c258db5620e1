"""Times the train step of dfc_mnist in Keras on TensorFlow, on all cores; see `tests/peers/__init__.py`."""

import argparse
import os

from tests.peers.timing import BATCHES, answer


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=["dfc_mnist"], required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--jit_compile", action=argparse.BooleanOptionalAction, default=False)
    flags = parser.parse_args()
    os.environ.update(KERAS_BACKEND="tensorflow", TF_ENABLE_ONEDNN_OPTS="1", CUDA_VISIBLE_DEVICES="")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.pop("XLA_FLAGS", None)  # jax's flags
    import keras  # only now: it reads the environment
    import tensorflow as tf

    from tests.peers.keras_steps import LATENTS, SHAPE, make_networks, make_optimizer, make_step

    keras.utils.set_random_seed(0)
    train_step = make_step(make_networks(), make_optimizer())
    batches = [tf.random.uniform((flags.batch_size, *SHAPE)) for _ in range(BATCHES)]

    @tf.function(jit_compile=flags.jit_compile)
    def compiled(images):
        return train_step(images, tf.random.normal((flags.batch_size, LATENTS)))

    def step(images) -> None:
        for term in compiled(images).values():
            term.numpy()

    answer("keras", keras.__version__, "channels_last", step, batches)


if __name__ == "__main__":
    main()
