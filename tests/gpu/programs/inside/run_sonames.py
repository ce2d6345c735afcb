# SPDX-License-Identifier: Apache-2.0
"""What ffmpeg, GStreamer, DALI, OptiX and the CUDA driver itself open by name."""

import ctypes
import sys


def loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        print(error)
        return False
    print("loaded", name)
    return True


loaded = [loads(name) for name in sys.argv[1:]]
sys.exit(not all(loaded))
