/* SPDX-License-Identifier: Apache-2.0
 *
 * The mock of libnvidia-ml for NVIDIA's own nvidia-smi in a container: as the real library, it
 * knows only GPUs whose node /dev/nvidiaN may be opened. No driver stands behind the nodes of a
 * fake host, so that opening one ends in ENXIO; EPERM is the control group's answer. On the host,
 * which cdi-gen looks at from without and where no NVML_MOCK_HOST is set, it knows every GPU.
 */
#define nvmlInitWithFlags init_with_every_gpu
#include "../fakehost/nvml_mock.c"
#undef nvmlInitWithFlags
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int may_be_opened(const struct gpu *gpu)
{
    char node[32];
    snprintf(node, sizeof node, "/dev/nvidia%u", gpu->minor);
    int descriptor = open(node, O_RDWR);
    if (descriptor < 0)
        return errno == ENXIO;
    close(descriptor);
    return 1;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    int first = !host.users;
    nvmlReturn_t code = init_with_every_gpu(flags);
    if (code || !first || !getenv("NVML_MOCK_HOST"))
        return code;
    int kept = 0;
    for (int i = 0; i < host.gpus; i++)
        if (may_be_opened(&host.gpu[i]))
            host.gpu[kept++] = host.gpu[i];
    host.gpus = kept;
    return SUCCESS;
}

static nvmlReturn_t succeed(void) { return SUCCESS; }

/* What nvidia-smi and the library have between themselves: functions without public names, in a
 * table that begins with its own size. */
nvmlReturn_t nvmlInternalGetExportTable(const void **table, const void *which)
{
    static const void *functions[64];
    (void)which;
    functions[0] = (void *)sizeof functions;
    for (unsigned i = 1; i < sizeof functions / sizeof *functions; i++)
        functions[i] = (void *)succeed;
    *table = functions;
    return SUCCESS;
}
