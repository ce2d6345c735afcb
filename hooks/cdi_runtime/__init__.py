# SPDX-License-Identifier: Apache-2.0
"""What runs when an engine says `--runtime=nvidia`, or calls NVIDIA's prestart hook.

Standard library only. A container's request (`NVIDIA_VISIBLE_DEVICES` and its like) becomes edits
of the same CDI spec that CDI engines read, applied to a bundle or to a container that exists.
"""
