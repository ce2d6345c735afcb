# SPDX-License-Identifier: Apache-2.0
"""The programs of hooks/: installed, run by hand, prepared for."""
