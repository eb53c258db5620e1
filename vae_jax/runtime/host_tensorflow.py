"""TensorFlow is here for tensorflow-datasets and TensorBoard only."""


def hide_accelerators() -> None:
    """Call before anything that imports TensorFlow: it would take the memory of every GPU it sees."""
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
