"""The same train steps in PyTorch and in Keras, used by the benchmark alone; `tests/bench/test_peers.py` compares them.

Plain code of either framework, as somebody writes it who knows how to make it fast there. Each program says what it is
and then for every line that it reads, a number of steps, how many seconds those took; from the repository's folder:

    echo 20 | python -m tests.peers.torch_peer --system=dfc_mnist --batch_size=128 --layout=channels_last
    echo 20 | python -m tests.peers.keras_peer --system=dfc_mnist --batch_size=128

They need neither jax nor vae_jax, so that PyTorch may have an environment of its own (`requirements.txt`). Memory is
allocated as their frameworks do; vae_jax's commands keep what a step has freed (`vae_jax.cli.keep_freed_memory`).
"""
