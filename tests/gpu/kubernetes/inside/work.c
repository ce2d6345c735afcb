// SPDX-License-Identifier: Apache-2.0
// Computes on the one GPU of a container for some seconds, with the driver's API alone.
//
//     work SECONDS BLOCKS MEBIBYTES [fault]
//
// It prints the GPU and its multiprocessors, whether an allocation of so many MiB succeeds, and how
// many kernels ended in the time. Each kernel has BLOCKS blocks; fewer blocks than multiprocessors
// leave room for another process. The times are of the machine's monotonic clock, which all
// containers have in common. With "fault" a last kernel writes to memory that nobody has allocated.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ITERATIONS 4000000u
#define THREADS 128u
#define MULTIPROCESSORS 16  // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT

static const char PTX[] =
    ".version 7.0\n.target sm_52\n.address_size 64\n"
    ".visible .entry work(.param .u64 out, .param .u32 count) {\n"
    "  .reg .b32 %r<7>; .reg .b64 %rd<4>; .reg .pred %p;\n"
    "  ld.param.u64 %rd1, [out];\n"
    "  ld.param.u32 %r6, [count];\n"
    "  cvta.to.global.u64 %rd2, %rd1;\n"
    "  mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;\n"
    "  mad.lo.s32 %r4, %r2, %r3, %r1;\n"
    "  mul.wide.u32 %rd3, %r4, 4;\n"
    "  add.s64 %rd2, %rd2, %rd3;\n"
    "  mov.u32 %r5, %r4;\n"
    "again:\n"
    "  mad.lo.s32 %r5, %r5, 1664525, 1013904223;\n"
    "  sub.s32 %r6, %r6, 1;\n"
    "  setp.ne.s32 %p, %r6, 0;\n"
    "  @%p bra again;\n"
    "  st.global.u32 [%rd2], %r5;\n"
    "  ret;\n}\n";

static void *library;

static void *symbol(const char *name) {
  void *address = dlsym(library, name);
  if (!address) {
    fprintf(stderr, "libcuda has no %s\n", name);
    exit(1);
  }
  return address;
}

static void check(const char *what, int result) {
  if (result) {
    printf("%s: CUDA error %d\n", what, result);
    exit(1);
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned expected(unsigned number) {
  for (unsigned i = 0; i < ITERATIONS; i++) number = number * 1664525u + 1013904223u;
  return number;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  double seconds = atof(argv[1]);
  unsigned blocks = (unsigned)atoi(argv[2]), iterations = ITERATIONS;
  unsigned long long mebibytes = strtoull(argv[3], 0, 10);
  setvbuf(stdout, 0, _IOLBF, 0);
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) {
    printf("%s\n", dlerror());
    return 1;
  }
  int (*init)(unsigned) = symbol("cuInit");
  int (*count)(int *) = symbol("cuDeviceGetCount");
  int (*get)(int *, int) = symbol("cuDeviceGet");
  int (*get_uuid)(unsigned char *, int) = symbol("cuDeviceGetUuid_v2");
  int (*attribute)(int *, int, int) = symbol("cuDeviceGetAttribute");
  int (*retain)(void **, int) = symbol("cuDevicePrimaryCtxRetain");
  int (*set_current)(void *) = symbol("cuCtxSetCurrent");
  int (*load)(void **, const void *) = symbol("cuModuleLoadData");
  int (*function)(void **, void *, const char *) = symbol("cuModuleGetFunction");
  int (*allocate)(unsigned long long *, size_t) = symbol("cuMemAlloc_v2");
  int (*release)(unsigned long long) = symbol("cuMemFree_v2");
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                void *, void **, void **) = symbol("cuLaunchKernel");
  int (*copy)(void *, unsigned long long, size_t) = symbol("cuMemcpyDtoH_v2");
  int (*synchronize)(void) = symbol("cuCtxSynchronize");
  int devices = 0, device, multiprocessors;
  unsigned char uuid[16];
  void *context, *module, *kernel;
  unsigned long long memory, large;
  check("cuInit", init(0));
  check("cuDeviceGetCount", count(&devices));
  check("cuDeviceGet", get(&device, 0));
  check("cuDeviceGetUuid", get_uuid(uuid, device));
  check("cuDeviceGetAttribute", attribute(&multiprocessors, MULTIPROCESSORS, device));
  check("cuDevicePrimaryCtxRetain", retain(&context, device));
  check("cuCtxSetCurrent", set_current(context));
  printf("devices %d, first GPU-%02x%02x%02x%02x, multiprocessors %d\n", devices, uuid[0], uuid[1],
         uuid[2], uuid[3], multiprocessors);
  int result = allocate(&large, mebibytes << 20);
  printf("allocation of %llu MiB: %s (%d)\n", mebibytes, result ? "refused" : "granted", result);
  if (!result) check("cuMemFree", release(large));
  check("cuModuleLoadData", load(&module, PTX));
  check("cuModuleGetFunction", function(&kernel, module, "work"));
  check("cuMemAlloc", allocate(&memory, sizeof(unsigned) * blocks * THREADS));
  unsigned last = blocks * THREADS - 1, wanted = expected(last), number, kernels = 0;
  void *arguments[] = {&memory, &iterations};
  double begin = now(), end = begin;
  printf("begin %.3f\n", begin);
  while (end - begin < seconds) {
    check("cuLaunchKernel", launch(kernel, blocks, 1, 1, THREADS, 1, 1, 0, 0, arguments, 0));
    check("cuMemcpyDtoH", copy(&number, memory + sizeof(unsigned) * last, sizeof number));
    if (number != wanted) {
      printf("thread %u computed %u and not %u\n", last, number, wanted);
      return 1;
    }
    kernels++;
    end = now();
  }
  printf("end %.3f\nkernels %u, %.1f a second\n", end, kernels, kernels / (end - begin));
  if (argc > 4) {
    memory = 4096;
    check("cuLaunchKernel", launch(kernel, blocks, 1, 1, THREADS, 1, 1, 0, 0, arguments, 0));
    check("fault", synchronize());
  }
  return 0;
}
