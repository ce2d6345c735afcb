// SPDX-License-Identifier: Apache-2.0
// Linked with libcuda and libnvidia-ml themselves: gcc linked.c -lcuda -lnvidia-ml
#include <stdio.h>

int cuInit(unsigned);
int cuDeviceGetCount(int *);
int nvmlInit_v2(void);

int main(void) {
  int count = 0;
  if (cuInit(0) || cuDeviceGetCount(&count) || nvmlInit_v2()) return 1;
  printf("linked: %d devices\n", count);
  return count == 0;
}
