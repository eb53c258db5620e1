"""Products that the networks need for one image: a hand count, layer by layer, from the layers' sizes.

A product is a multiplication with its addition, two operations. Products with the zeros of a margin do not count; those
with a repeated edge do. A network is the list of its layers' products in a forward pass; the gradient with respect to a
layer's input takes as many again, and so does that with respect to its weights. The sizes come from the networks'
docstrings and papers, not from the programs under test.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

Network = list[int]


def line(size: int, kernel: int, stride: int, margin: tuple[int, int]) -> int:
    """Products along one line of `size` pixels, with this many zeros before and after it."""
    before, after = margin
    starts = range(-before, size + after - kernel + 1, stride)
    return sum(0 <= start + tap < size for start in starts for tap in range(kernel))


def conv(size: int, kernel: int, inputs: int, outputs: int, stride: int = 1, margin=None) -> int:
    """A convolution of `inputs` channels of size x size; by default half the kernel as margin on all sides."""
    margin = (kernel // 2, kernel // 2) if margin is None else margin
    return line(size, kernel, stride, margin) ** 2 * inputs * outputs


def up(size: int, kernel: int, inputs: int, outputs: int) -> int:
    """A transposed convolution from size x size to twice that: as many as the convolution whose gradient it is.

    Of a 3x3 kernel the four phases of the output have 1, 2, 2 and 4 taps, of a 5x5 kernel 9, 6, 6 and 4.
    """
    low = (kernel - 2) // 2
    return conv(2 * size, kernel, outputs, inputs, stride=2, margin=(low, kernel - 2 - low))


def nearest(size: int, inputs: int, outputs: int) -> int:
    """Nearest-neighbour up-sampling from size x size, its edge repeated, and a 3x3 convolution: 2x2 for each output."""
    return (2 * 2 * size) ** 2 * inputs * outputs


def chain(widths: Sequence[int], layer: Callable[[int, int, int], int], sizes: Sequence[int]) -> Network:
    """`layer(size, inputs, outputs)` for each pair of neighbours of `widths`."""
    return [layer(size, a, b) for size, (a, b) in zip(sizes, pairwise(widths), strict=True)]


def trained(network: Network) -> int:
    """Forward, to all weights, and to all inputs except the first layer's."""
    return 3 * sum(network) - network[0]


def between(network: Network) -> int:
    """The same for a network whose input is another's output: also to that input."""
    return 3 * sum(network)


def frozen(network: Network) -> int:
    """A network that is not trained: forward for the image and its reconstruction, back to the reconstruction."""
    return 3 * sum(network)


# ---- the networks of configs/ ------------------------------------------------------------------------------------


def mnist_encoder() -> Network:
    convs = [conv(28, 3, 1, 32), conv(28, 3, 32, 64, 2, (0, 1)), conv(14, 3, 64, 64), conv(14, 3, 64, 64)]
    return [*convs, 14 * 14 * 64 * 32, 2 * 32 * 5]


def mnist_decoder() -> Network:
    return [5 * 14 * 14 * 64, up(14, 3, 64, 32), conv(28, 3, 32, 1)]


def mnist_classifier(dense: bool = False) -> Network:
    """Up to relu2, or with all its layers."""
    convs = [conv(28, 3, 1, 32, margin=(0, 0)), conv(13, 3, 32, 64, margin=(0, 0))]
    return [*convs, conv(5, 3, 64, 64, margin=(0, 0)), 3 * 3 * 64 * 64, 64 * 10] if dense else convs


def celeba_encoder() -> Network:
    convs = chain((3, 32, 64, 128, 256), lambda size, a, b: conv(size, 4, a, b, 2, (1, 1)), (64, 32, 16, 8))
    return [*convs, 2 * 4 * 4 * 256 * 100]


def celeba_decoder() -> Network:
    return [100 * 4 * 4 * 256, *chain((256, 128, 64, 32, 3), nearest, (4, 8, 16, 32))]


def vgg(size: int, convolutions: Sequence[int]) -> Network:
    """VGG with this many convolutions per block."""
    layers, before = [], 3
    for block, count in enumerate(convolutions):
        width = min(64 * 2**block, 512)
        for _ in range(count):
            layers.append(conv(size >> block, 3, before, width))
            before = width
    return layers


def alexnet(size: int, convolutions: int = 5) -> Network:
    """Its first convolutions; 3x3 windows of stride 2 are pooled before the second and the third."""
    layers, size = [conv(size, 11, 3, 64, 4, (2, 2))], (size + 4 - 11) // 4 + 1
    for i, (a, b) in enumerate(pairwise((64, 192, 384, 256, 256))):
        size = (size - 1) // 2 if i < 2 else size
        layers.append(conv(size, 5 if i == 0 else 3, a, b))
    return layers[:convolutions]


def larsen_encoder() -> Network:
    convs = chain((3, 64, 128, 256), _half(5), (64, 32, 16))
    return [*convs, 8 * 8 * 256 * 1024, 2 * 1024 * 128]


def larsen_decoder() -> Network:
    ups = chain((256, 256, 128, 32), lambda size, a, b: up(size, 5, a, b), (8, 16, 32))
    return [128 * 8 * 8 * 256, *ups, conv(64, 5, 32, 3)]


def larsen_discriminator() -> Network:
    """conv1 to conv4, and two dense layers."""
    return [conv(64, 5, 3, 32), *chain((32, 128, 256, 256), _half(5), (64, 32, 16)), 8 * 8 * 256 * 512, 512]


def deepsim_encoder() -> Network:
    layers, half = [], (_half(5), _half(5), _half(3))
    for i, (a, b) in enumerate(((3, 32), (32, 64), (64, 128))):
        layers += [half[i](64 >> i, a, b), conv(32 >> i, 3, b, b)]
    return [*layers, conv(8, 3, 128, 64), conv(8, 3, 64, 8)]


def deepsim_decoder() -> Network:
    layers = [conv(8, 3, 8, 64), conv(8, 3, 64, 128), up(8, 4, 128, 64), conv(16, 3, 64, 64), up(16, 4, 64, 32)]
    return [*layers, conv(32, 3, 32, 32), up(32, 4, 32, 16), conv(64, 3, 16, 3)]


def deepsim_generator() -> Network:
    """From conv5 of 96x96 images, which is 2x2: a margin of two makes it 4x4, five doublings 128x128."""
    layers = [conv(2, 3, 256, 256, margin=(2, 2)), conv(4, 3, 256, 256), conv(4, 3, 256, 256), conv(4, 3, 256, 512)]
    layers += [up(4, 4, 512, 256), conv(8, 3, 256, 256), up(8, 4, 256, 128), conv(16, 3, 128, 128)]
    return [*layers, up(16, 4, 128, 64), up(32, 4, 64, 32), up(64, 4, 32, 3)]


def deepsim_discriminator(size: int) -> Network:
    """Its convolutions."""
    layers, kernels_and_strides = [], ((7, 2), (5, 1), (3, 2), (3, 1), (3, 2))
    for (kernel, stride), (a, b) in zip(kernels_and_strides, pairwise((3, 32, 64, 128, 256, 256)), strict=True):
        layers.append(conv(size, kernel, a, b, stride, (0, 0)))
        size = (size - kernel) // stride + 1
    return layers


def spatial_encoder() -> Network:
    """Of super-resolution, at 32x32: two blocks of width 32, mean and log-variance of 8 latents a pixel."""
    return [conv(32, 3, 3, 32), *4 * [conv(32, 3, 32, 32)], 2 * conv(32, 3, 32, 8)]


def spatial_upscaler() -> Network:
    """Four blocks, and the sub-pixels of factor 2."""
    return [conv(32, 3, 8, 32), *8 * [conv(32, 3, 32, 32)], conv(32, 3, 32, 3 * 2**2)]


def patchgan(size: int) -> Network:
    layers, widths = [], (3, 64, 128, 256, 512, 1)
    for i, (a, b) in enumerate(pairwise(widths)):
        stride = 2 if i < 3 else 1
        layers.append(conv(size, 4, a, b, stride, (1, 1)))
        size = (size + 2 - 4) // stride + 1
    return layers


def _half(kernel: int):
    """A convolution of stride 2 to half the size, with torch's margin of half the kernel."""
    return lambda size, a, b: conv(size, kernel, a, b, 2, (kernel // 2, kernel // 2 - 1))
