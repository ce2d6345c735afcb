/* SPDX-License-Identifier: Apache-2.0
 *
 * MIG: modes, instances and profiles. Part of nvml_mock.c, which includes this file.
 */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    ASK(device);
    if (gpu->mig_mode < 0 || as_mig(device))
        return NOT_SUPPORTED;
    *current = *pending = (unsigned)mig_mode_of(gpu);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    ASK(device);
    *count = mig_mode_of(gpu) == 1 ? 7 : 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index,
                                                 nvmlDevice_t *mig)
{
    ASK(device);
    if (index >= 7)
        return INVALID_ARGUMENT;
    if (index >= (unsigned)gpu->migs)
        return NOT_FOUND;
    *mig = &gpu->mig[index];
    return state_of(place_of(*mig));
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_mig)
{
    ASK(device);
    *is_mig = as_mig(device) != NULL;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device)
{
    ASK(mig);
    *device = gpu;
    return as_mig(mig) ? SUCCESS : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    if (!mig)
        return NOT_SUPPORTED;
    *id = mig->gi;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    if (!mig)
        return NOT_SUPPORTED;
    *id = mig->ci;
    return SUCCESS;
}

struct attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gi_slices, ci_slices;
    unsigned long long mib;
};

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, struct attributes *attributes)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    if (!mig)
        return NOT_SUPPORTED;
    *attributes = (struct attributes){
        .multiprocessors = 16 * mig->slices,
        .copy_engines = mig->slices,
        .gi_slices = mig->slices,
        .ci_slices = mig->slices,
        .mib = mig->mib,
    };
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, struct attributes *attributes)
{
    return nvmlDeviceGetAttributes_v2(device, attributes);
}

/* A GPU instance is handled by the first MIG device in it. */
nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, void **instance)
{
    ASK(device);
    for (int m = 0; m < gpu->migs; m++)
        if (gpu->mig[m].gi == id) {
            *instance = &gpu->mig[m];
            return SUCCESS;
        }
    return NOT_FOUND;
}

struct gpu_instance_info {
    nvmlDevice_t device;
    unsigned id, profile, placement_start, placement_size;
};

nvmlReturn_t nvmlGpuInstanceGetInfo(void *instance, struct gpu_instance_info *info)
{
    ASK(instance);
    struct mig *mig = as_mig(instance);
    if (!mig)
        return INVALID_ARGUMENT;
    *info = (struct gpu_instance_info){.device = gpu, .id = mig->gi, .placement_size = mig->slices};
    return SUCCESS;
}

/* And so is the compute instance. */
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(void *gpu_instance, unsigned id, void **instance)
{
    ASK(gpu_instance);
    struct mig *mig = as_mig(gpu_instance);
    if (!mig)
        return INVALID_ARGUMENT;
    for (int m = 0; m < gpu->migs; m++)
        if (gpu->mig[m].gi == mig->gi && gpu->mig[m].ci == id) {
            *instance = &gpu->mig[m];
            return SUCCESS;
        }
    return NOT_FOUND;
}

struct compute_instance_info {
    nvmlDevice_t device;
    void *gpu_instance;
    unsigned id, profile, placement_start, placement_size;
};

nvmlReturn_t nvmlComputeInstanceGetInfo_v2(void *instance, struct compute_instance_info *info)
{
    ASK(instance);
    struct mig *mig = as_mig(instance);
    if (!mig)
        return INVALID_ARGUMENT;
    *info = (struct compute_instance_info){.device = gpu,
                                           .gpu_instance = mig,
                                           .id = mig->ci,
                                           .placement_size = mig->slices};
    return SUCCESS;
}

/* One profile: NVML_GPU_INSTANCE_PROFILE_1_SLICE, without graphics. */
struct gpu_instance_profile {
    unsigned id, p2p, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs,
        ofas;
    unsigned long long mib;
};

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned profile,
                                                 struct gpu_instance_profile *info)
{
    ASK(device);
    if (gpu->mig_mode < 0 || profile != 0)
        return NOT_SUPPORTED;
    *info = (struct gpu_instance_profile){
        .slices = 1, .instances = 7, .multiprocessors = 16, .copy_engines = 1, .mib = gpu->mib / 8};
    return SUCCESS;
}

struct compute_instance_profile {
    unsigned id, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
};

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(void *gpu_instance, unsigned profile,
                                                          unsigned engines,
                                                          struct compute_instance_profile *info)
{
    ASK(gpu_instance);
    if (profile != 0 || engines != 0)
        return NOT_SUPPORTED;
    *info = (struct compute_instance_profile){.slices = 1, .instances = 1, .multiprocessors = 16};
    return SUCCESS;
}
