// SPDX-License-Identifier: Apache-2.0
// Runs a CUDA kernel on every device, through nothing but the driver: libcuda.so.1 is loaded by its
// SONAME, as every CUDA program does, and the kernel is PTX, which the driver's own compiler
// (libnvidia-ptxjitcompiler.so.1) has to turn into machine code.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static const char PTX[] =
    ".version 7.0\n.target sm_52\n.address_size 64\n"
    ".visible .entry square(.param .u64 out) {\n"
    "  .reg .b32 %r<3>; .reg .b64 %rd<4>;\n"
    "  ld.param.u64 %rd1, [out];\n"
    "  cvta.to.global.u64 %rd2, %rd1;\n"
    "  mov.u32 %r1, %tid.x;\n"
    "  mul.lo.s32 %r2, %r1, %r1;\n"
    "  mul.wide.u32 %rd3, %r1, 4;\n"
    "  add.s64 %rd2, %rd2, %rd3;\n"
    "  st.global.u32 [%rd2], %r2;\n"
    "  ret;\n}\n";

static void *library;

static void *symbol(const char *name) {
  void *found = dlsym(library, name);
  if (!found) {
    fprintf(stderr, "libcuda has no %s\n", name);
    exit(1);
  }
  return found;
}

static void check(const char *what, int result) {
  if (result) {
    fprintf(stderr, "%s: CUDA error %d\n", what, result);
    exit(1);
  }
}

int main(void) {
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  int (*init)(unsigned) = symbol("cuInit");
  int (*count)(int *) = symbol("cuDeviceGetCount");
  int (*get)(int *, int) = symbol("cuDeviceGet");
  int (*get_name)(char *, int, int) = symbol("cuDeviceGetName");
  int (*retain)(void **, int) = symbol("cuDevicePrimaryCtxRetain");
  int (*set_current)(void *) = symbol("cuCtxSetCurrent");
  int (*load)(void **, const void *) = symbol("cuModuleLoadData");
  int (*function)(void **, void *, const char *) = symbol("cuModuleGetFunction");
  int (*allocate)(unsigned long long *, size_t) = symbol("cuMemAlloc_v2");
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                void *, void **, void **) = symbol("cuLaunchKernel");
  int (*copy)(void *, unsigned long long, size_t) = symbol("cuMemcpyDtoH_v2");
  int devices = 0;
  check("cuInit", init(0));
  check("cuDeviceGetCount", count(&devices));
  for (int index = 0; index < devices; index++) {
    int device, out[32] = {0};
    char name[64];
    void *context, *module, *kernel;
    unsigned long long memory;
    check("cuDeviceGet", get(&device, index));
    check("cuDeviceGetName", get_name(name, sizeof name, device));
    check("cuDevicePrimaryCtxRetain", retain(&context, device));
    check("cuCtxSetCurrent", set_current(context));
    check("cuModuleLoadData", load(&module, PTX));
    check("cuModuleGetFunction", function(&kernel, module, "square"));
    check("cuMemAlloc", allocate(&memory, sizeof out));
    void *arguments[] = {&memory};
    check("cuLaunchKernel", launch(kernel, 1, 1, 1, 32, 1, 1, 0, 0, arguments, 0));
    check("cuMemcpyDtoH", copy(out, memory, sizeof out));
    for (int thread = 0; thread < 32; thread++)
      if (out[thread] != thread * thread) {
        fprintf(stderr, "thread %d computed %d\n", thread, out[thread]);
        return 1;
      }
    printf("device %d, %s: kernel ran, 31 * 31 = %d\n", index, name, out[31]);
  }
  return devices ? 0 : 1;
}
