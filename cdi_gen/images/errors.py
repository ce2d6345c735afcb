# SPDX-License-Identifier: Apache-2.0
"""The errors of reading images, and the limits on what is read."""

from __future__ import annotations

from cdi_gen.errors import CdiGenError

MAX_JSON = 8 << 20
"""The largest manifest, index or configuration; registries accept 4 MiB."""
MAX_ENTRIES = 1_000_000
"""The largest number of files of an image's archives."""
MAX_CONTENT = 1 << 30
"""The largest file of an image that is copied to memory, to be read through a descriptor."""
MAX_DECOMPRESSED = 256 << 30
"""The largest size of a layer after decompression."""
MAX_RATIO = 200
"""The largest ratio of both sizes of a compressed layer of more than `RATIO_FROM` bytes."""
RATIO_FROM = 4 << 30


class ImageError(CdiGenError):
    """The image cannot be read."""

    code = "CDG-M022"


class ImageNotFoundError(ImageError):
    """No store has the image."""

    code = "CDG-M021"


class DamagedImageError(ImageError):
    """The image's archive or its metadata is damaged."""

    code = "CDG-M024"


class TooLargeError(ImageError):
    """The image exceeds a limit."""

    code = "CDG-M025"
