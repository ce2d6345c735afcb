// SPDX-License-Identifier: Apache-2.0
// Lists the EGL devices as a headless program finds them, and says which of them it can use. The
// driver's EGL lists every GPU of the host unless an application profile names the container's.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define EGL_PLATFORM_DEVICE_EXT 0x313F
#define EGL_VENDOR 0x3053
#define MOST 64

typedef void *(*find)(const char *);

int main(void) {
  void *library = dlopen("libEGL.so.1", RTLD_NOW);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  find symbol = (find)dlsym(library, "eglGetProcAddress");
  unsigned (*query)(int, void **, int *) = symbol("eglQueryDevicesEXT");
  void *(*display)(int, void *, const int *) = symbol("eglGetPlatformDisplayEXT");
  unsigned (*initialize)(void *, int *, int *) = symbol("eglInitialize");
  const char *(*text)(void *, int) = symbol("eglQueryString");
  int (*fault)(void) = symbol("eglGetError");
  if (!query || !display || !initialize || !text || !fault) {
    fprintf(stderr, "libEGL lacks a function\n");
    return 1;
  }
  void *devices[MOST];
  int count = 0;
  if (!query(MOST, devices, &count)) {
    printf("eglQueryDevicesEXT: error 0x%x\n", fault());
    return 0;
  }
  printf("%d EGL devices\n", count);
  for (int i = 0; i < count; i++) {
    int major = 0, minor = 0;
    void *found = display(EGL_PLATFORM_DEVICE_EXT, devices[i], NULL);
    if (found && initialize(found, &major, &minor))
      printf("device %d: EGL %d.%d, %s\n", i, major, minor, text(found, EGL_VENDOR));
    else
      printf("device %d: error 0x%x\n", i, fault());
  }
  return 0;
}
