/* SPDX-License-Identifier: Apache-2.0
 *
 * A libcuda with one GPU, for hosts without one: what programs ask before they create a context.
 * NAME, MEMORY (bytes), MAJOR, MINOR and VERSION are defined when it is compiled.
 */

#include <stddef.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_DEVICE = 101 };
enum { CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };

static int initialised;

int cuInit(unsigned flags)
{
    initialised = flags == 0;
    return initialised ? SUCCESS : INVALID_VALUE;
}

int cuDriverGetVersion(int *version)
{
    *version = VERSION;
    return SUCCESS;
}

int cuDeviceGetCount(int *count)
{
    *count = 1;
    return initialised ? SUCCESS : NOT_INITIALIZED;
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return initialised && ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetName(char *name, int length, int device)
{
    if (device != 0 || (size_t)length < sizeof NAME)
        return INVALID_VALUE;
    memcpy(name, NAME, sizeof NAME);
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = MEMORY;
    return device == 0 ? SUCCESS : INVALID_DEVICE;
}

/* The function of CUDA before 3.2 has 32 bits. */
int cuDeviceTotalMem(unsigned *bytes, int device)
{
    *bytes = (unsigned)MEMORY;
    return device == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (device != 0 || (attribute != CAPABILITY_MAJOR && attribute != CAPABILITY_MINOR))
        return INVALID_VALUE;
    *value = attribute == CAPABILITY_MAJOR ? MAJOR : MINOR;
    return SUCCESS;
}
