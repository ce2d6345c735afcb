# SPDX-License-Identifier: Apache-2.0
"""From a request to edits: the prepared specs, and the devices in them."""
