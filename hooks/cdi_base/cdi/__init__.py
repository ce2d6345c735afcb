# SPDX-License-Identifier: Apache-2.0
"""The Container Device Interface, as the hooks and the library both need it."""
