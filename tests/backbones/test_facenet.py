"""FaceNet is facenet-pytorch's: features, gradients, names and sizes (`golden/make_facenet.py`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import fill
from helpers.checks import ROOT

from pretrained_converters.names import STYLES, translate
from vae_jax.backbones import BACKBONES
from vae_jax.backbones.facenet import TAPS, FaceNet, l2_normalize
from vae_jax.errors import UserError
from vae_jax.weights.files import fit

NARROW = FaceNet(width=4)
PUBLISHED = 23_512_224  # floats in the state dict of facenet-pytorch 2.6.0's InceptionResnetV1, no classifier


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests" / "golden" / "facenet.npz") as file:
        return dict(file)


def converted(golden: dict[str, np.ndarray]):
    """The narrow network's weights, from facenet-pytorch's names and axes."""
    shapes = dict(zip(golden["keys"].tolist(), golden["shapes"].tolist(), strict=True))
    state = {name: fill(name, tuple(map(int, shape.split()))) for name, shape in shapes.items()}
    leaves, _ = translate(state, STYLES["facenet"], "facenet.npz")
    images = jnp.zeros((1, 75, 75, 3))
    expected = jax.eval_shape(lambda: NARROW.init(jax.random.key(0), images, tuple(TAPS))["params"])
    return fit(leaves, expected, "facenet.npz")


def test_facenet_pytorch(golden):
    weights, taps = converted(golden), tuple(TAPS)

    def weighted(images, weights):
        features = NARROW.apply({"params": weights}, (255 * images - 127.5) / 128, taps)
        return (features["embedding"] * golden["cotangent"]).sum(), features

    (_, features), gradient = jax.jit(jax.value_and_grad(weighted, has_aux=True))(golden["images"], weights)
    for tap in taps:
        found = features[tap] if tap == "embedding" else features[tap][:, ::3, ::3]
        np.testing.assert_allclose(found, golden[tap], rtol=0, atol=1e-5 * np.abs(golden[tap]).max(), err_msg=tap)
    expected = golden["gradient"]
    np.testing.assert_allclose(gradient[:, ::3, ::3], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_names(golden):
    """Every entry becomes one of ours, or is a counter or the classifier; no two become the same one."""
    (style,) = STYLES["facenet"]
    names = {*golden["keys"].tolist(), "logits.weight", "logits.bias"}
    assert len({path for path, _ in style.names.values()}) == len(style.names) == 602
    left_out = {name for name in names if style.leaves_out(name)}
    assert names - left_out == style.names.keys()
    assert {name.split(".")[-1] for name in left_out if "logits" not in name} == {"num_batches_tracked"}
    with pytest.raises(UserError, match="(?s)missing: block8.branch0.bn.bias, .*unexpected: last_linear.bias"):
        translate({"last_linear.bias": np.zeros(3)}, (style,), "a file")


@pytest.mark.parametrize("taps, size", [(tuple(TAPS), PUBLISHED), (("Conv2d_1a_3x3",), 3 * 3 * 3 * 32 + 4 * 32)])
def test_sizes(taps, size):
    """The whole network as published, and no more than a tap needs."""
    weights = jax.eval_shape(lambda: BACKBONES["facenet"].init(jax.random.key(0), taps))
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == size


def test_images_of_any_size_are_resized_to_160():
    backbone, taps = BACKBONES["facenet"], ("embedding", "Conv2d_2b_3x3", "Conv2d_1a_3x3", "Conv2d_2a_3x3")
    weights = jax.eval_shape(lambda: backbone.init(jax.random.key(0), taps))
    found = jax.eval_shape(lambda w: backbone.apply(w, jnp.zeros((2, 40, 30, 1)), taps), weights)
    assert [found[tap].shape for tap in taps] == [(2, 512), (2, 77, 77, 64), (2, 79, 79, 32), (2, 77, 77, 32)]


def test_a_zero_embedding_has_a_gradient():
    x = jnp.array([[0.0, 0.0], [3.0, 4.0], [3e-6, 4e-6], [0.0, 1e-30]])
    np.testing.assert_allclose(l2_normalize(x), [[0, 0], [0.6, 0.8], [0.3, 0.4], [0, 1e-25]], rtol=1e-5)
    gradient = jax.grad(lambda x: l2_normalize(x).sum())(x)
    np.testing.assert_allclose(gradient[0], [1e5, 1e5], rtol=1e-5)
    assert (np.abs(gradient) < 1.001e5).all()
