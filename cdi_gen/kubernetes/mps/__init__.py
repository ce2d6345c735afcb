# SPDX-License-Identifier: Apache-2.0
"""MPS control daemons: started, watched and started again, for devices that are shared by MPS.

``resources/mps.py`` says which daemons a node needs. ``program`` runs NVIDIA's control program,
``directories`` makes what it needs below ``--mps-root``, ``keeper`` keeps one daemon running, and
``daemons`` keeps all of a node. Daemons outlive the plugin, because the end of a daemon ends every
pod that uses it; a plugin that starts adopts the daemons that run.
"""
