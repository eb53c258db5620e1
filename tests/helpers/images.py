"""Images as files."""

import io

from PIL import Image


def encoded(pixels, kind: str = "PNG") -> bytes:
    """uint8 [h, w] or [h, w, 3] as the content of a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()
