# SPDX-License-Identifier: Apache-2.0
"""cdi-gen puts a host's NVIDIA GPUs into containers.

Importing this package imports only the version, to keep the start-up time short. The packages in it
are described in ``docs/architecture.md``.
"""

from cdi_base import VERSION

__version__ = VERSION
