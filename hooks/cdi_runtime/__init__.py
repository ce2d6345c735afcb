# SPDX-License-Identifier: Apache-2.0
"""The runtime shim, which engines run for `--runtime=nvidia`, and NVIDIA's prestart hook.

Standard library only. A container's request (`NVIDIA_VISIBLE_DEVICES` and similar variables)
becomes edits of the CDI specs that CDI engines read. The shim applies the edits to the bundle, the
prestart hook to the container that already exists.
"""
