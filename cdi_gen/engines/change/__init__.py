# SPDX-License-Identifier: Apache-2.0
"""Changes the configuration files of an engine, and reverts the changes."""
