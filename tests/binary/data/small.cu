// The source of small.sm_90.cubin: the kernels of small.hip, and one with a stack frame.
struct Pair { float a[5]; };
extern "C" __global__ void __launch_bounds__(256) axpy(const float* x, float* y, float a, unsigned n) {
  unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
extern "C" __global__ void __launch_bounds__(128) dot(const float4* x, const float4* y, float* out, unsigned n) {
  __shared__ float part[128];
  unsigned t = threadIdx.x;
  float s = 0;
#pragma unroll 1
  for (unsigned i = t; i < n; i += 128) {
    float4 p = x[i], q = y[i];
    s = fmaf(p.w, q.w, fmaf(p.z, q.z, fmaf(p.y, q.y, fmaf(p.x, q.x, s))));
  }
  part[t] = s;
  __syncthreads();
  if (t == 0) {
    float r = 0;
#pragma unroll 1
    for (int j = 0; j < 128; j++) r += part[j];
    out[blockIdx.x] = r;
  }
}
extern "C" __global__ void pick(float* o, Pair p, char c, int n) {
  extern __shared__ float window[];
  float local[64];
  for (int i = 0; i < 64; i++) local[i] = o[i];
#pragma unroll 1
  for (int i = 0; i < n; i++) o[i] = local[i * i & 63];
  window[threadIdx.x] = p.a[n % 5] + c;
  __syncthreads();
  o[threadIdx.x] = window[threadIdx.x ^ 1];
}
