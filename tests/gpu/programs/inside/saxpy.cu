// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

__global__ void saxpy(int n, float a, const float *x, float *y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}

int main() {
  const int n = 1 << 16;
  float *x, *y, first = 0;
  if (cudaMalloc(&x, n * sizeof(float)) || cudaMalloc(&y, n * sizeof(float))) return 1;
  cudaMemset(x, 0, n * sizeof(float));
  cudaMemset(y, 0, n * sizeof(float));
  saxpy<<<n / 256, 256>>>(n, 2.0f, x, y);
  cudaError_t error = cudaDeviceSynchronize();
  if (error || cudaMemcpy(&first, y, sizeof first, cudaMemcpyDeviceToHost)) {
    printf("%s\n", cudaGetErrorString(error));
    return 1;
  }
  cudaFree(x);
  cudaFree(y);
  printf("saxpy ran: %g\n", first);
  return first != 0;
}
