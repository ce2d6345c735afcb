/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Become the low-level runtime if the arguments create no container; return if Python has to decide. */
void pass_through(int argc, char **argv);
