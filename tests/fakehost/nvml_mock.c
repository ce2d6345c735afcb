/* SPDX-License-Identifier: Apache-2.0
 *
 * A libnvidia-ml.so.1 that answers from a text file instead of from a kernel module: under the real
 * symbol names, with the real structures and error codes, as far as pynvml and go-nvml ask.
 *
 * The text is $NVML_MOCK_HOST, or nvml-mock.host beside the library. A line is one of
 *
 *   driver VERSION CUDA        the CUDA version as NVML has it: 12040 for 12.4
 *   init CODE                  what nvmlInit answers; 0 is success
 *   gpu UUID MINOR PCI-ADDRESS PCI-ID SUBSYSTEM-ID BRAND CC-MAJOR CC-MINOR MIB MIG HANDLE QUERY NAME
 *   mig GPU-INDEX GI CI UUID SLICES MIB NAME
 *   topology GPU-INDEX GPU-INDEX LEVEL    the level as nvmlGpuTopologyLevel_t has it
 *   nvlink GPU-INDEX LINK TYPE PCI-ADDRESS    an active link; TYPE is 0 for a GPU, 2 for a switch
 *   fabric GPU-INDEX CLUSTER CLIQUE STATE     CLUSTER is 32 hexadecimal digits
 *
 * in the order of NVML indices. PCI ids are hexadecimal, device in the upper half. MIG is -1 where
 * the GPU has no such mode, else 0 or 1. HANDLE and QUERY are the NVML codes that asking for this
 * GPU's handle, and asking the GPU for anything, are answered with.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    VERSION_MISMATCH = 25,
};

enum { MAX_GPUS = 32, MAX_MIGS = 8, MAX_LINKS = 18 };

typedef int nvmlReturn_t;

struct mig {
    struct gpu *gpu;
    unsigned gi, ci, slices;
    unsigned long long mib;
    char uuid[80], name[96];
};

struct gpu {
    unsigned minor, domain, bus, slot, pci_id, subsystem_id, brand, cc_major, cc_minor;
    unsigned long long mib;
    int mig_mode, handle_code, query_code;
    char uuid[80], name[96];
    int migs;
    struct mig mig[MAX_MIGS];
    int level[MAX_GPUS]; /* and one, so that 0 is: not in the text */
    struct link {
        int active;
        unsigned type;
        char address[32];
    } link[MAX_LINKS];
    unsigned char cluster[16];
    unsigned clique, fabric_state;
};

static struct {
    int users;
    char driver[80];
    int cuda;
    int gpus;
    struct gpu gpu[MAX_GPUS];
} host;

/* A handle is a pointer into the tables above; which table, tells its kind. */
typedef void *nvmlDevice_t;

static struct gpu *as_gpu(nvmlDevice_t device)
{
    for (int i = 0; i < host.gpus; i++)
        if (device == &host.gpu[i])
            return &host.gpu[i];
    return NULL;
}

static struct mig *as_mig(nvmlDevice_t device)
{
    for (int i = 0; i < host.gpus; i++)
        for (int m = 0; m < host.gpu[i].migs; m++)
            if (device == &host.gpu[i].mig[m])
                return &host.gpu[i].mig[m];
    return NULL;
}

#include "nvml_mock_values.c"

/* Why `device` cannot be asked at all, or SUCCESS with the GPU that it is or lies on. */
static nvmlReturn_t ask(nvmlDevice_t device, struct gpu **gpu)
{
    calls++;
    if (!host.users)
        return UNINITIALIZED;
    struct mig *mig = as_mig(device);
    *gpu = mig ? mig->gpu : as_gpu(device);
    if (!*gpu)
        return INVALID_ARGUMENT;
    nvmlReturn_t code = state_of(place_of(device));
    return code ? code : (*gpu)->query_code;
}

#define ASK(device)                                                                                \
    struct gpu *gpu;                                                                               \
    nvmlReturn_t refused = ask(device, &gpu);                                                      \
    if (refused)                                                                                   \
        return refused

static nvmlReturn_t put(char *into, unsigned size, const char *text)
{
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(into, text);
    return SUCCESS;
}

static FILE *open_description(void)
{
    const char *named = getenv("NVML_MOCK_HOST");
    if (named)
        return fopen(named, "r");
    Dl_info self;
    char path[PATH_MAX + sizeof "/nvml-mock.host"];
    if (!dladdr((void *)open_description, &self) || !realpath(self.dli_fname, path))
        return NULL;
    strcpy(strrchr(path, '/'), "/nvml-mock.host");
    return fopen(path, "r");
}

/* Reads the lines about connections between GPUs, which come after those of the GPUs. */
static void read_connection(const char *line)
{
    unsigned one, other, number, type, state;
    int level;
    char text[64];
    if (sscanf(line, "topology %u %u %d", &one, &other, &level) == 3 &&
        one < (unsigned)host.gpus && other < (unsigned)host.gpus)
        host.gpu[one].level[other] = host.gpu[other].level[one] = level + 1;
    if (sscanf(line, "nvlink %u %u %u %31s", &one, &number, &type, text) == 4 &&
        one < (unsigned)host.gpus && number < MAX_LINKS) {
        struct link *link = &host.gpu[one].link[number];
        link->active = 1;
        link->type = type;
        strcpy(link->address, text);
    }
    if (sscanf(line, "fabric %u %32s %u %u", &one, text, &number, &state) == 4 &&
        one < (unsigned)host.gpus) {
        struct gpu *gpu = &host.gpu[one];
        for (int i = 0; i < 16; i++)
            sscanf(text + 2 * i, "%2hhx", &gpu->cluster[i]);
        gpu->clique = number;
        gpu->fabric_state = state;
    }
}

static nvmlReturn_t read_description(void)
{
    FILE *file = open_description();
    if (!file)
        return DRIVER_NOT_LOADED;
    int code = SUCCESS;
    char line[512];
    host.gpus = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned index;
        struct gpu g = {0};
        struct mig m = {0};
        sscanf(line, "driver %79s %d", host.driver, &host.cuda);
        sscanf(line, "init %d", &code);
        read_connection(line);
        if (host.gpus < MAX_GPUS &&
            sscanf(line, "gpu %79s %u %x:%x:%x.0 %x %x %u %u %u %llu %d %d %d %95[^\n]", g.uuid,
                   &g.minor, &g.domain, &g.bus, &g.slot, &g.pci_id, &g.subsystem_id, &g.brand,
                   &g.cc_major, &g.cc_minor, &g.mib, &g.mig_mode, &g.handle_code, &g.query_code,
                   g.name) == 15)
            host.gpu[host.gpus++] = g;
        if (sscanf(line, "mig %u %u %u %79s %u %llu %95[^\n]", &index, &m.gi, &m.ci, m.uuid,
                   &m.slices, &m.mib, m.name) == 7 &&
            index < (unsigned)host.gpus && host.gpu[index].migs < MAX_MIGS) {
            struct gpu *gpu = &host.gpu[index];
            m.gpu = gpu;
            gpu->mig[gpu->migs++] = m;
        }
    }
    fclose(file);
    return code;
}

/* ---- the library and the system ---- */

nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    calls++;
    nvmlReturn_t code = state_of(NO_DEVICE);
    if (code || host.users++)
        return code;
    code = read_description();
    if (code)
        host.users = 0;
    return code;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void)
{
    if (!host.users)
        return UNINITIALIZED;
    host.users--;
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t code)
{
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    return host.users ? put(version, size, host.driver) : UNINITIALIZED;
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
    char text[96];
    snprintf(text, sizeof text, "%d.%s", host.cuda / 1000, host.driver);
    return host.users ? put(version, size, text) : UNINITIALIZED;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    *version = host.cuda;
    return SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* ---- from a name to a handle ---- */

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = (unsigned)host.gpus;
    return host.users ? SUCCESS : UNINITIALIZED;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    if (!host.users)
        return UNINITIALIZED;
    calls++;
    if (index >= (unsigned)host.gpus)
        return INVALID_ARGUMENT;
    *device = &host.gpu[index];
    nvmlReturn_t code = state_of((int)index * (MAX_MIGS + 1));
    return code ? code : host.gpu[index].handle_code;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    if (!host.users)
        return UNINITIALIZED;
    for (int i = 0; i < host.gpus; i++) {
        if (!strcmp(uuid, host.gpu[i].uuid))
            return nvmlDeviceGetHandleByIndex_v2((unsigned)i, device);
        for (int m = 0; m < host.gpu[i].migs; m++)
            if (!strcmp(uuid, host.gpu[i].mig[m].uuid)) {
                *device = &host.gpu[i].mig[m];
                return host.gpu[i].handle_code;
            }
    }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *device)
{
    unsigned domain, bus, slot;
    if (!host.users)
        return UNINITIALIZED;
    if (sscanf(address, "%x:%x:%x", &domain, &bus, &slot) != 3)
        return INVALID_ARGUMENT;
    for (int i = 0; i < host.gpus; i++)
        if (host.gpu[i].domain == domain && host.gpu[i].bus == bus && host.gpu[i].slot == slot)
            return nvmlDeviceGetHandleByIndex_v2((unsigned)i, device);
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *address, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByPciBusId_v2(address, device);
}

/* ---- what a device is ---- */

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    *index = (unsigned)(mig ? mig - gpu->mig : gpu - host.gpu);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned size)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    return put(uuid, size, mig ? mig->uuid : gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned size)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    return put(name, size, mig ? mig->name : gpu->name);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
    ASK(device);
    *minor = gpu->minor;
    return as_mig(device) ? NOT_SUPPORTED : SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, unsigned *brand)
{
    ASK(device);
    *brand = gpu->brand;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    ASK(device);
    *major = (int)gpu->cc_major;
    *minor = (int)gpu->cc_minor;
    return SUCCESS;
}

struct pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, slot, pci_id, subsystem_id;
    char bus_id[32];
};

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct pci_info *pci)
{
    ASK(device);
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.0",
             gpu->domain & 0xffff, gpu->bus & 0xff, gpu->slot & 0xff);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", gpu->domain, gpu->bus & 0xff,
             gpu->slot & 0xff);
    pci->domain = gpu->domain;
    pci->bus = gpu->bus;
    pci->slot = gpu->slot;
    pci->pci_id = gpu->pci_id;
    pci->subsystem_id = gpu->subsystem_id;
    return SUCCESS;
}

#include "nvml_mock_mig.c"
#include "nvml_mock_measures.c"
#include "nvml_mock_links.c"
#include "nvml_mock_events.c"
#include "nvml_mock_states.c"
#include "nvml_mock_texts.c"
