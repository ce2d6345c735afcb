/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections between GPUs: PCIe, NVLink, NVLink fabrics. Part of nvml_mock.c, which includes this
 * file.
 */

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, int *level)
{
    ASK(one);
    struct gpu *second = as_gpu(other);
    if (!second || !as_gpu(one))
        return INVALID_ARGUMENT;
    int stored = gpu->level[second - host.gpu];
    *level = stored - 1;
    return stored ? SUCCESS : NOT_SUPPORTED;
}

/* The link, or NULL with the reason. */
static struct link *link_of(nvmlDevice_t device, unsigned number, nvmlReturn_t *code)
{
    struct gpu *gpu;
    *code = ask(device, &gpu);
    if (*code)
        return NULL;
    int any = 0;
    for (int i = 0; i < MAX_LINKS; i++)
        any |= gpu->link[i].active;
    *code = !any ? NOT_SUPPORTED : number >= MAX_LINKS ? INVALID_ARGUMENT : SUCCESS;
    return *code ? NULL : &gpu->link[number];
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned number, unsigned *active)
{
    nvmlReturn_t code;
    struct link *link = link_of(device, number, &code);
    if (link)
        *active = (unsigned)link->active;
    return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned number,
                                                 unsigned *type)
{
    nvmlReturn_t code;
    struct link *link = link_of(device, number, &code);
    if (link)
        *type = link->type;
    return code;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned number,
                                                 struct pci_info *pci)
{
    nvmlReturn_t code;
    struct link *link = link_of(device, number, &code);
    if (!link)
        return code;
    memset(pci, 0, sizeof *pci);
    strcpy(pci->bus_id, link->address);
    return SUCCESS;
}

struct fabric {
    unsigned char cluster[16];
    nvmlReturn_t status;
    unsigned clique;
    unsigned char state;
};

nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, struct fabric *fabric)
{
    ASK(device);
    memset(fabric, 0, sizeof *fabric);
    memcpy(fabric->cluster, gpu->cluster, sizeof fabric->cluster);
    fabric->clique = gpu->clique;
    fabric->state = (unsigned char)gpu->fabric_state;
    return gpu->fabric_state ? SUCCESS : NOT_SUPPORTED;
}

struct fabric_v {
    unsigned version;
    unsigned char cluster[16];
    nvmlReturn_t status;
    unsigned clique;
    unsigned char state;
    unsigned health;
    unsigned char summary;
};

/* The keys of the health are fabric_health and fabric_summary. */

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, struct fabric_v *fabric)
{
    struct fabric old;
    if (fabric->version != 0x2000024 && fabric->version != 0x3000028)
        return VERSION_MISMATCH;
    nvmlReturn_t code = nvmlDeviceGetGpuFabricInfo(device, &old);
    if (code)
        return code;
    memcpy(fabric->cluster, old.cluster, sizeof fabric->cluster);
    fabric->status = old.status;
    fabric->clique = old.clique;
    fabric->state = old.state;
    number(device, "fabric_health", &fabric->health);
    unsigned summary;
    if (fabric->version == 0x3000028 && !number(device, "fabric_summary", &summary))
        fabric->summary = (unsigned char)summary;
    return SUCCESS;
}
