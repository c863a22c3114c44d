// The source of the small.*.hsaco files beside it: an axpy, and a dot product with a loop, LDS and a barrier. Self-contained, no headers.
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
typedef float f4 __attribute__((ext_vector_type(4)));
extern "C" __global__ __attribute__((amdgpu_flat_work_group_size(256, 256))) void axpy(const float* x, float* y, float a, unsigned n) {
  unsigned i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  if (i < n) y[i] += a * x[i];
}
extern "C" __global__ __attribute__((amdgpu_flat_work_group_size(128, 128))) void dot(const f4* x, const f4* y, float* out, unsigned n) {
  __shared__ float part[128];
  unsigned t = __builtin_amdgcn_workitem_id_x();
  float s = 0;
#pragma unroll 1
  for (unsigned i = t; i < n; i += 128) {
    f4 p = x[i], q = y[i];
    for (int j = 0; j < 4; j++) s = __builtin_fmaf(p[j], q[j], s);
  }
  part[t] = s;
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  if (t == 0) {
    float r = 0;
#pragma unroll 1
    for (int j = 0; j < 128; j++) r += part[j];
    out[__builtin_amdgcn_workgroup_id_x()] = r;
  }
}
