// Generic pointers, calls, globals, unaligned and buffer accesses, and kernels that are wrong on purpose.
// generic pointers to LDS, scratch and memory; function calls; constant and global variables
__constant__ float ctab[8] = {1.f, 2.f, 4.f, 8.f, -1.f, -2.f, 0.5f, 0.25f};
__device__ float gvar[4] = {10.f, 20.f, 30.f, 40.f};
__device__ float gout[2];
__device__ float* gptr = &gvar[2];              // a relocated pointer
__device__ __attribute__((noinline)) float callee(const float* p, int n) {
  float s = 0;
  for (int i = 0; i < n; i++) s += p[i] * (i + 1);
  return s;
}
K void generic(const float* a, float* o, int n, const int* idx) {
  __shared__ float s[64];
  float pr[16];
  int t = threadIdx.x;
  s[t % 64] = a[t % 64];
  __syncthreads();
  for (int i = 0; i < 16; i++) pr[i] = 0;
  for (int i = 0; i < 16; i++) pr[(i * idx[t]) & 15] = a[i] * ctab[(i + t) & 7];
  const float* p = (idx[t] & 1) ? s : (idx[t] & 2) ? pr : a;
  o[t] = callee(p, n) + gvar[t & 3] + pr[idx[t] & 15] + gptr[1];
  if (t == 5) gout[1] = 99.f;
}
K void unaligned(const u8* a, u8* o, int off) {
  int t = threadIdx.x;
  u32 v; __builtin_memcpy(&v, a + off + t * 7, 4);
  u2 w; __builtin_memcpy(&w, a + off + 1 + t * 3, 8);
  v += w.x * 3 + w.y * 5;
  __builtin_memcpy(o + 1 + t * 4, &v, 4);
  u16 h; __builtin_memcpy(&h, a + t * 2 + off, 2);
  o[2000 + t] = h >> 3;
}
#if G9
#define RSRC3 0x00027000
#else
#define RSRC3 0x31004000
#endif
K void buf(const u32* a, u32* o, int n) {
  __amdgpu_buffer_rsrc_t r = __builtin_amdgcn_make_buffer_rsrc((void*)a, 0, n * 4, RSRC3);
  int t = threadIdx.x, b = blockDim.x;
  o[t] = __builtin_amdgcn_raw_buffer_load_b32(r, t * 4, 0, 0);
  u4 v = BITS(u4, __builtin_amdgcn_raw_buffer_load_b128(r, t * 16 + 16, 0, 0));
  o[b + t] = v.x + v.y * 3 + v.z * 5 + v.w * 7;
  o[2 * b + t] = __builtin_amdgcn_raw_buffer_load_b8(r, t * 3, 1, 0) + __builtin_amdgcn_raw_buffer_load_b16(r, t * 2, 0, 0) * 256;
  __amdgpu_buffer_rsrc_t w = __builtin_amdgcn_make_buffer_rsrc((void*)(o + 3 * b), 0, (b - 5) * 4, RSRC3);
  __builtin_amdgcn_raw_buffer_store_b32(t * 11, w, t * 4, 0, 0);
}
// ------------------------------------------------------------------ faults
K void oob(const float* a, float* o, int n) { o[threadIdx.x] = a[(int)threadIdx.x + n]; }
K void oobw(float* o, int n) { o[(int)threadIdx.x + n] = 1.f; }
K void spin(u32* p) { while (*(volatile u32*)p == 0) {} p[1] = 1; }
K void trap(int* p, int n) { if (n > 3) __builtin_trap(); p[0] = n; }
K void race2(float* o) {                         // correct exchange
  __shared__ float s[256];
  s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  float v = s[(threadIdx.x + 64) % 256];
  __syncthreads();
  s[255 - threadIdx.x] = v;
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x];
}
K void race(float* o) {                          // a barrier is missing on purpose
  __shared__ float s[256];
  s[threadIdx.x] = threadIdx.x;
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  o[threadIdx.x] = s[(threadIdx.x + 64) % 256];
}

// ---- one byte too far, in every kind of memory
K void byte_read(const u8* a, u8* o, int at) { o[0] = a[at]; }
K void byte_write(u8* o, int at) { o[at] = 1; }
K void wide_read(const u4* a, u4* o, int at) { __builtin_memcpy(&o[threadIdx.x], (const u8*)a + 16 * threadIdx.x + at, 16); }
K void lds_at(u8* o, int at) {
  extern __shared__ u8 bytes[];
  bytes[at] = 7;
  __syncthreads();
  o[0] = bytes[at];
}
K void scratch_at(u32* o, int at) {
  u8 mine[64];
  for (int i = 0; i < 64; i++) ((volatile u8*)mine)[i] = i;
  o[threadIdx.x] = ((volatile u8*)mine)[at];
}
// ---- what nobody wrote
K void fresh(u32* o) {
  extern __shared__ u32 words[];
  u32 v;
  asm volatile("v_mov_b32 %0, v77" : "=v"(v) : : "v77");
  o[2 * threadIdx.x] = v;
  o[2 * threadIdx.x + 1] = words[threadIdx.x];
}
// ---- work-groups that wait for each other: everybody arrives, nobody leaves before the last
K void rendezvous(u32* count, u32* o) {
  if (threadIdx.x == 0) {
    atomicAdd(count, 1u);
    while (__hip_atomic_load(count, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_AGENT) < gridDim.x) {}
  }
  __syncthreads();
  o[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x + *(volatile u32*)count;
}
K void count_to(u32* count, int n) {
  for (int i = 0; i < n; i++) atomicAdd(count, 1u);
}
K void stride_read(const u32* a, u32* o, int stride) {
  extern __shared__ u32 table[];
  for (u32 i = threadIdx.x; i < warpSize * 32; i += blockDim.x) table[i] = a[i];
  __syncthreads();
  o[threadIdx.x] = table[threadIdx.x * stride];
}
