"""Writes the picture that the image benchmark works on: 24 megapixels, like a photograph, the same every time.

The photograph that Tally ships is enlarged and grain is laid over it, as a camera's sensor would: without grain an
enlarged picture would be much easier to compress than a real one.

    make_image.py FROM.png TO.png
"""

import sys

import numpy
from PIL import Image

WIDTH, HEIGHT = 6000, 4000
# Standard deviation of the grain in steps of 1/255, about what a phone shows at ISO 200.
GRAIN = 3.0
SEED = 7


def main() -> None:
    source, target = sys.argv[1:]
    photograph = Image.open(source).convert("RGB")
    # The middle of the photograph in the shape of the target, so that nothing is squeezed.
    rows = photograph.width * HEIGHT // WIDTH
    top = (photograph.height - rows) // 2
    box = (0, top, photograph.width, top + rows)
    large = photograph.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box)
    chance = numpy.random.Generator(numpy.random.PCG64(SEED))
    pixels = numpy.asarray(large).astype(numpy.int16)
    for row in pixels:
        row += chance.normal(0.0, GRAIN, row.shape).round().astype(numpy.int16)
    Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(target, compress_level=6)


if __name__ == "__main__":
    main()
