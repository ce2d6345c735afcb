# SPDX-License-Identifier: Apache-2.0
"""Reads commands and files that start containers, as the engines read them."""
