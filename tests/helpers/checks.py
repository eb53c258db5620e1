"""Comparisons for tests: values, gradients, golden arrays, and the operations of a program."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.formula import uniform

from vae_jax.models.cpu_forms import VECTOR

ROOT = Path(__file__).parents[2]


def value_and_gradient(function, *arguments):
    """function(*arguments) [B], and the gradient of its weighted sum (1, 2, ...) with respect to the last argument."""

    @jax.jit
    def both(*arguments):
        values, pull = jax.vjp(lambda last: function(*arguments[:-1], last), arguments[-1])
        return values, *pull(jnp.arange(1, len(values) + 1, dtype=values.dtype))

    values, gradient = both(*arguments)
    return np.asarray(values), np.asarray(gradient)


def assert_same(ours, plain, *arguments):
    """Two functions have the same values, to 1e-5, and gradients with respect to all arguments, to 1e-5 of the largest
    entry, of a randomly weighted sum."""

    def all_of(function):
        def values_and_gradients(*arguments):
            values, pull = jax.vjp(function, *arguments)
            return values, pull(jax.random.normal(jax.random.key(2), values.shape))

        return jax.jit(values_and_gradients)(*arguments)

    (values, gradients), (expected, slow) = all_of(ours), all_of(plain)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()), gradients, slow)


def assert_gradients(ours, expected, rtol: float, atol: float) -> None:
    """Two trees of a player's gradients in float64 are equal to rtol, or to atol of the largest entry."""
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    assert largest > 1e-4, "hardly any gradient to compare"
    for (path, leaf), theirs in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == "float64"
        np.testing.assert_allclose(leaf, theirs, rtol=rtol, atol=atol * largest, err_msg=str(path))


def equations(jaxpr):
    """All equations of a program, including nested ones, whose results are used: XLA drops the others."""
    used = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
        if used & set(equation.outvars):
            used |= {v for v in equation.invars if not hasattr(v, "val")}
            yield equation
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def convolutions(jaxpr):
    """Those among `equations`, and the matrix products that stand for convolutions: of images by taps in whole vectors
    (to one channel), and of patches by the kernel (of images smaller than it)."""
    found = list(equations(jaxpr))
    joined = {v for equation in found if equation.primitive.name == "concatenate" for v in equation.outvars}
    for equation in found:
        shapes = [v.aval.shape for v in equation.invars]
        product = equation.primitive.name == "dot_general" and list(map(len, shapes)) == [4, 2]
        of_patches = product and equation.invars[0] in joined and equation.params["dimension_numbers"][0][1] == (0,)
        to_one_channel = product and shapes[1][0] % VECTOR == 0
        if equation.primitive.name == "conv_general_dilated" or of_patches or to_one_channel:
            yield equation


def assert_golden(name, function, arguments, rtol=1e-5):
    """Values [B] and gradient of their sum with respect to the last argument, as in golden/rival_losses.npz."""
    with np.load(ROOT / "tests" / "golden" / "rival_losses.npz") as golden:
        values, expected = golden[name], golden[f"{name}/gradient"]
    np.testing.assert_allclose(jax.jit(function)(*arguments), values, rtol=rtol)
    gradient = jax.jit(jax.grad(lambda last: function(*arguments[:-1], last).sum()))(arguments[-1])
    if gradient.shape != expected.shape:
        gradient = np.asarray(gradient).ravel()[(uniform("gradient", expected.shape) * gradient.size).astype(int)]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=rtol * np.abs(expected).max())


def tf_value_and_gradient(function, *arguments):
    """The same as value_and_gradient, by TensorFlow."""
    tf = pytest.importorskip("tensorflow")
    tensors = [tf.constant(a) for a in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors[-1])
        values = function(*tensors)
        loss = tf.reduce_sum(values * tf.range(1, values.shape[0] + 1, dtype=values.dtype))
    return values.numpy(), tape.gradient(loss, tensors[-1]).numpy()


def assert_equal(ours, theirs, rtol=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())
