"""Classical checks of a generated image: no network looks at it.

The background is the median of the rim; the foreground is what differs from it; the shape is the nearest of
ten drawn templates; counts are connected areas; relations compare the centres of two colours.
"""

from functools import cache

import attrs
import numpy as np
from PIL import Image, ImageDraw

from .shapes import COLOR_NAMES, COLORS, SHAPES, SIZE, Canvas

PALETTE = np.array(list(COLORS.values()), np.float32)
TEMPLATE = 32
LEAST_AREA = 40
LEAST_DISTANCE = 40.0


def nearest_color(rgb: np.ndarray) -> str:
    """The palette colour closest to an RGB value in 0..255."""
    return COLOR_NAMES[int(((PALETTE - rgb) ** 2).sum(1).argmin())]


@attrs.frozen
class Seen:
    """An image `(height, width, 3)`, the distance of each pixel to the background, and the foreground mask."""

    pixels: np.ndarray
    background: str
    distance: np.ndarray
    mask: np.ndarray

    @property
    def foreground(self) -> str | None:
        """The palette colour of the foreground's middle, None where there is hardly any."""
        if self.mask.sum() < LEAST_AREA:
            return None
        inner = eroded(self.mask)
        return nearest_color(np.median(self.pixels[inner if inner.sum() >= LEAST_AREA else self.mask], 0))

    @property
    def shape(self) -> str | None:
        """The template that the foreground looks like most."""
        crop = cropped(self.distance, self.mask)
        if crop is None:
            return None
        return min(templates(), key=lambda name: float(((templates()[name] - crop) ** 2).sum()))

    @property
    def count(self) -> int:
        """How many separate areas the foreground has."""
        areas = Image.fromarray(self.mask.astype(np.uint8)).copy()
        found = 0
        while (rest := np.argwhere(np.asarray(areas) == 1)).size:
            ImageDraw.floodfill(areas, (int(rest[0][1]), int(rest[0][0])), 2)
            found += int((np.asarray(areas) == 2).sum()) >= LEAST_AREA
            areas = areas.point(lambda value: value % 2)
        return found

    def centre(self, color: str) -> tuple[float, float] | None:
        """The mean (x, y) of the foreground pixels nearest to a palette colour, None where there are few.

        Here a pale thing beside a dark one must count too, so the mask is a wider one, without its blended rim.
        """
        mask = eroded(self.distance > LEAST_DISTANCE)
        points = np.argwhere(mask)
        nearest = ((self.pixels[mask][:, None] - PALETTE) ** 2).sum(-1).argmin(1)
        points = points[nearest == COLOR_NAMES.index(color)]
        if len(points) < LEAST_AREA:
            return None
        y, x = points.mean(0)
        return float(x), float(y)


def look(image: Image.Image) -> Seen:
    """Split an image into background and foreground."""
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    sides = pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]
    rim = np.concatenate([side.reshape(-1, 3) for side in sides])
    background = np.median(rim, 0)
    distance = np.sqrt(((pixels - background) ** 2).sum(-1))
    mask = distance > max(LEAST_DISTANCE, 0.45 * float(np.percentile(distance, 99.5)))
    return Seen(pixels, nearest_color(background), distance, mask)


def eroded(mask: np.ndarray) -> np.ndarray:
    """The mask without its one-pixel rim."""
    padded = np.pad(mask, 1)
    inner: np.ndarray = mask & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return inner


def cropped(distance: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """The foreground's strength in 0..1, cut to a square around it and scaled to the template's size."""
    if mask.sum() < LEAST_AREA:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 5
    left, top = (columns[0] + columns[-1] + 1 - side) / 2, (rows[0] + rows[-1] + 1 - side) / 2
    level = float(np.median(distance[mask]))
    strength = Image.fromarray((np.clip(distance / level, 0, 1) * 255).astype(np.uint8))
    box = (left, top, left + side, top + side)
    square = strength.transform((SIZE, SIZE), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return np.asarray(square.resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX), np.float32) / 255


@cache
def templates() -> dict[str, np.ndarray]:
    """Each shape as `cropped` sees a clean drawing of it."""
    found = {}
    for name, draw in SHAPES.items():
        canvas = Canvas(COLORS["white"])
        draw(canvas, 0.5, 0.5, 0.29, COLORS["black"])
        seen = look(canvas.finished())
        crop = cropped(seen.distance, seen.mask)
        assert crop is not None
        found[name] = crop
    return found
