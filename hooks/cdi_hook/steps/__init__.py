# SPDX-License-Identifier: Apache-2.0
"""The steps of the hook, each named as a CDI spec names it."""
