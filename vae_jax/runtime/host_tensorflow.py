"""TensorFlow, which only tensorflow-datasets and TensorBoard use."""


def hide_accelerators() -> None:
    """Call before any other import of TensorFlow: it would take the memory of every GPU it sees."""
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
