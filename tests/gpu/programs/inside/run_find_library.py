# SPDX-License-Identifier: Apache-2.0
"""ctypes.util.find_library, which asks ldconfig, gcc and ld."""

import ctypes
import ctypes.util
import sys

found = ctypes.util.find_library(sys.argv[1])
print(f"find_library({sys.argv[1]!r}) = {found!r}")
assert found
ctypes.CDLL(found)
