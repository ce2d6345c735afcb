# SPDX-License-Identifier: Apache-2.0
"""cdi-gen puts a host's NVIDIA GPUs into containers.

Importing this package imports nothing but the version: each part is a module of its own
(see ``docs/architecture.md``), and start-up time is part of the design.
"""

from cdi_base import VERSION

__version__ = VERSION
