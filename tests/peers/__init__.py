"""The same train steps in PyTorch and in Keras, used only by the benchmark; `tests/bench/test_peers.py` compares them.

Plain code of each framework, as written by somebody who knows how to make it fast there. Each program describes itself,
then reads lines, each a number of steps, and answers with the seconds they took; from the repository's folder:

    echo 20 | python -m tests.peers.torch_peer --system=dfc_mnist --batch_size=128 --layout=channels_last
    echo 20 | python -m tests.peers.keras_peer --system=dfc_mnist --batch_size=128

They need neither jax nor vae_jax, so that PyTorch may have its own environment (`requirements.txt`). Their frameworks
allocate memory as usual; vae_jax's commands keep what a step has freed (`vae_jax.runtime.devices.keep_freed_memory`).
"""
