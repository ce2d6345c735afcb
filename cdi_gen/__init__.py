# SPDX-License-Identifier: Apache-2.0
"""cdi-gen puts a host's NVIDIA GPUs into containers.

Importing this package imports nothing else: each part is a module of its own
(see ``docs/architecture.md``), and start-up time is part of the design.
"""

__version__ = "0.1.0"
