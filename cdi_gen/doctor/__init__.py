# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen doctor``: examines a host, and says what keeps containers from their GPUs.

`checks` has one module for each check or family of checks; `host` is what they may ask; `run` runs
them and `output` prints the results. `cdi_gen.metrics` counts the findings.
"""
