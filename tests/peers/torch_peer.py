"""Times a train step in PyTorch on the CPU, eager, on all cores; see `tests/peers/__init__.py`."""

import argparse
import os

import torch

from tests.peers.timing import BATCHES, answer
from tests.peers.torch_steps import SHAPES, SYSTEMS

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=SYSTEMS, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--layout", choices=LAYOUTS, default="channels_last")
    flags = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    layout = LAYOUTS[flags.layout]
    system = SYSTEMS[flags.system](channels_last=flags.layout == "channels_last")
    system.networks.to(memory_format=layout)
    height, width, channels = SHAPES[flags.system]
    shape = (flags.batch_size, channels, height, width)
    batches = [torch.rand(shape).to(memory_format=layout) for _ in range(BATCHES)]

    def step(images: torch.Tensor) -> None:
        system.step(images, torch.randn(system.noise_shape(len(images))))

    answer("torch", torch.__version__, flags.layout, step, batches)


if __name__ == "__main__":
    main()
