// Indices, arguments, dot products, reductions, lane permutes, LDS, atomics.
// ------------------------------------------------------------------ (a) indices
K void vadd(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}
K void ids(u32* o) {
  u32 b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  u32 t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  o[b * (blockDim.x * blockDim.y * blockDim.z) + t] =
      blockIdx.x | blockIdx.y << 4 | blockIdx.z << 8 | threadIdx.x << 12 | threadIdx.y << 20 | threadIdx.z << 26;
}
struct Big { int a; float f; double d; short s[3]; };
K void byval(Big x, char c, _Float16 h, double d, u64 q, float* o) {
  o[0] = x.a; o[1] = x.f; o[2] = (float)x.d; o[3] = x.s[2]; o[4] = c; o[5] = (float)h; o[6] = (float)d; o[7] = (float)(q >> 32); o[8] = (float)(u32)q;
}

// ------------------------------------------------------------------ (b) dots, reductions, LDS
K void dot_h(const h2* a, const h2* b, float* o, int n) {
  float acc = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) acc = __builtin_amdgcn_fdot2(a[i], b[i], acc, false);
  o[blockIdx.x * blockDim.x + threadIdx.x] = acc;
}
__device__ inline float dotb(u32 x, u32 y, float acc) {
#if G11 || G12 || defined(__gfx950__)
  return __builtin_amdgcn_fdot2_f32_bf16(BITS(bf2, x), BITS(bf2, y), acc, false);
#else
  acc += __uint_as_float(x << 16) * __uint_as_float(y << 16);
  return acc + __uint_as_float(x & 0xffff0000u) * __uint_as_float(y & 0xffff0000u);
#endif
}
K void dot_b(const u32* a, const u32* b, float* o, int n) {
  float acc = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) acc = dotb(a[i], b[i], acc);
  o[blockIdx.x * blockDim.x + threadIdx.x] = acc;
}
// out[m] = sum_k A[m][k] * x[k]: one wave per row, x staged in dynamic LDS
K void __launch_bounds__(256) gemv_bf16(const u4* A, const u4* x, float* out, int M, int KK) {
  extern __shared__ u4 sx[];
  for (int i = threadIdx.x; i < KK / 8; i += blockDim.x) sx[i] = x[i];
  __syncthreads();
  int wave = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  int m = blockIdx.x * (blockDim.x / warpSize) + wave;
  if (m >= M) return;
  float acc = 0;
  for (int k = lane; k < KK / 8; k += warpSize) {
    u4 a = __builtin_nontemporal_load(&A[(size_t)m * (KK / 8) + k]), b = sx[k];
    for (int j = 0; j < 4; j++) acc = dotb(a[j], b[j], acc);
  }
  for (int o = warpSize / 2; o; o >>= 1) acc += __shfl_xor(acc, o);
  if (lane == 0) out[m] = acc;
}
template <int c> __device__ float dpp(float x) { return __int_as_float(__builtin_amdgcn_mov_dpp(__float_as_int(x), c, 0xf, 0xf, 1)); }
template <int c, int rm = 15, int bm = 15, bool bc = false> __device__ float dppu(float old, float x) {
  return __int_as_float(__builtin_amdgcn_update_dpp(__float_as_int(old), __float_as_int(x), c, rm, bm, bc));
}
K void red_dpp(const float* a, float* o) {      // row_shr 8 4 2 1: lane 15 of a row has its sum
  int t = threadIdx.x;
  float x = a[blockIdx.x * blockDim.x + t];
  x += dpp<0x118>(x); x += dpp<0x114>(x); x += dpp<0x112>(x); x += dpp<0x111>(x);
#if G9
  x += dpp<0x142>(x); x += dpp<0x143>(x);       // row_bcast:15, row_bcast:31: lane 63
  if (t % 64 == 63) o[(blockIdx.x * blockDim.x + t) / 64] = x;
#else
  x += __shfl_xor(x, 16);
  if (t % 32 == 15) o[(blockIdx.x * blockDim.x + t) / 32] = x;
#endif
}
K void red_shl(const float* a, float* o) {
  int t = threadIdx.x;
  float x = a[blockIdx.x * blockDim.x + t];
  x += dpp<0x108>(x); x += dpp<0x104>(x); x += dpp<0x102>(x); x += dpp<0x101>(x);
  if (t % 16 == 0) o[(blockIdx.x * blockDim.x + t) / 16] = x;
}
K void dpps(const float* a, float* o) {
  int t = threadIdx.x, n = blockDim.x;
  float x = a[t], old = -1.f;
  o[t] = dppu<0x1b>(old, x); o[n + t] = dppu<0x111>(old, x); o[2 * n + t] = dppu<0x103>(old, x); o[3 * n + t] = dppu<0x125>(old, x);
  o[4 * n + t] = dppu<0x140>(old, x); o[5 * n + t] = dppu<0x141>(old, x);
  o[6 * n + t] = dppu<0x112, 0xa, 0xc>(old, x); o[7 * n + t] = dppu<0x112, 15, 15, true>(old, x);
  o[8 * n + t] = -2.f;
  if (t % 5 != 1) o[8 * n + t] = dppu<0x111>(old, x);          // inactive source lanes
#if G9
  o[9 * n + t] = dppu<0x142>(old, x); o[10 * n + t] = dppu<0x143>(old, x); o[11 * n + t] = dppu<0x130>(old, x); o[12 * n + t] = dppu<0x134>(old, x);
  o[13 * n + t] = dppu<0x138>(old, x); o[14 * n + t] = dppu<0x13c>(old, x); o[15 * n + t] = dppu<0x155>(old, x);
#else
  o[9 * n + t] = dppu<0x153>(old, x); o[10 * n + t] = dppu<0x165>(old, x);
  o[11 * n + t] = __int_as_float(__builtin_amdgcn_permlane16(0, __float_as_int(x), 0x76543210, 0xfedcba98, false, false));
  o[12 * n + t] = __int_as_float(__builtin_amdgcn_permlanex16(0, __float_as_int(x), 0x01234567, 0x89abcdef, false, false));
  o[13 * n + t] = __int_as_float(__builtin_amdgcn_mov_dpp8(__float_as_int(x), 0xfac688));
#endif
}
K void shfl(const float* a, float* o) {
  int t = threadIdx.x, n = blockDim.x;
  float x = a[t];
  o[t] = __shfl_xor(x, 1); o[n + t] = __shfl_xor(x, 8); o[2 * n + t] = __shfl_down(x, 3); o[3 * n + t] = __shfl_up(x, 5);
  o[4 * n + t] = __shfl(x, 7); o[5 * n + t] = __shfl_xor(x, 16); o[6 * n + t] = __shfl_xor(x, 3, 8);
  o[7 * n + t] = __int_as_float(__builtin_amdgcn_ds_swizzle(__float_as_int(x), 0x041f));
  o[8 * n + t] = __int_as_float(__builtin_amdgcn_ds_swizzle(__float_as_int(x), 0x80b1));
  o[9 * n + t] = __int_as_float(__builtin_amdgcn_readlane(__float_as_int(x), 9));
  o[10 * n + t] = __int_as_float(__builtin_amdgcn_readfirstlane(__float_as_int(x)));
  o[11 * n + t] = (float)__popcll(__ballot(x > 0.f));
  o[12 * n + t] = __int_as_float(__builtin_amdgcn_ds_permute(((t + 5) % warpSize) * 4, __float_as_int(x)));
  float y = x;
  if (t % 3 == 0) y = __int_as_float(__builtin_amdgcn_ds_bpermute((t ^ 2) % warpSize * 4, __float_as_int(x)));   // some sources inactive: they give 0
  o[13 * n + t] = y;
  o[14 * n + t] = (float)__lane_id();
}
K void lds_block(const float* a, float* o, int n) {
  __shared__ float s[256];
  __shared__ float w[16];
  int t = threadIdx.x;
  s[t] = (int)(blockIdx.x * blockDim.x + t) < n ? a[blockIdx.x * blockDim.x + t] : 0.f;
  __syncthreads();
  float v = s[blockDim.x - 1 - t] * (t + 1);
  for (int k = warpSize / 2; k; k >>= 1) v += __shfl_xor(v, k);
  if (t % warpSize == 0) w[t / warpSize] = v;
  __syncthreads();
  if (t == 0) {
    float r = 0;
    for (u32 i = 0; i < blockDim.x / warpSize; i++) r += w[i];
    o[blockIdx.x] = r;
  }
}
K void lds_types(const u8* a, u32* o) {
  extern __shared__ u8 d[];
  int t = threadIdx.x;
  d[t] = a[t];
  ((u16*)(d + 256))[t] = a[t] * 3;
  ((double*)(d + 1024))[t] = a[t] * 0.5;
  ((u4*)(d + 4096))[t] = u4{(u32)t, (u32)t * 2, (u32)t * 3, a[t]};
  ((uint3*)(d + 8192))[t] = make_uint3(t + 1, a[t], 7);
  __syncthreads();
  int q = (t + 17) % blockDim.x;
  u4 v = ((u4*)(d + 4096))[q];
  uint3 w = ((uint3*)(d + 8192))[q];
  o[t] = d[q] + ((u16*)(d + 256))[q] * 256 + (u32)(((double*)(d + 1024))[q] * 2) * 3 + v.x * 5 + v.y * 7 + v.z * 11 + v.w * 13 + w.x + w.y * 17 + w.z;
  __syncthreads();
  ((signed char*)d)[t] = -a[t];
  ((short*)(d + 256))[t] = -(int)a[t] * 5;
  __syncthreads();
  o[blockDim.x + t] = ((signed char*)d)[q] * 1000 + ((short*)(d + 256))[q];
}

// ------------------------------------------------------------------ (c) atomics
K void atom(const float* a, float* s, u32* cnt, u32* out, float* fin, int n) {   // the last workgroup finishes
  __shared__ bool last;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&s[i % 3], a[i]);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    u32 old = atomicAdd(cnt, 1u);
    out[blockIdx.x] = old;
    last = old == gridDim.x - 1;
  }
  __syncthreads();
  if (last) {
    __threadfence();
    if (threadIdx.x < 3) fin[threadIdx.x] = ((volatile float*)s)[threadIdx.x] * 2;
  }
}
K void atom2(float* f, u32* u, u64* q, int* i, h2* h, double* d, u32* res) {
  int t = threadIdx.x;
  unsafeAtomicAdd(f, 1.5f);
  atomicMax(&u[0], (u32)t * 7); atomicMin(&u[1], (u32)(1000 - t)); atomicOr(&u[2], 1u << (t & 31)); atomicAnd(&u[3], ~(1u << (t & 7))); atomicXor(&u[4], t);
  atomicAdd(q, 0x100000000ull + t); atomicMax(i, t - 100); atomicMin(i + 1, -t);
  res[t] = atomicExch(&u[5], t);
  res[blockDim.x + t] = atomicCAS(&u[6], t, t + 1);
  res[2 * blockDim.x + t] = atomicInc(&u[7], 10);
  res[3 * blockDim.x + t] = atomicSub(&u[8], 2);
  unsafeAtomicAdd(d, 0.25);
  atomicAddHalves(h, h2{1.f, 0.5f});
}
K void atom_lds(const u32* a, u32* o, float* of) {
  __shared__ u32 h[16];
  __shared__ float f;
  __shared__ u32 mx;
  int t = threadIdx.x;
  if (t < 16) h[t] = 0;
  if (t == 0) { f = 0; mx = 0; }
  __syncthreads();
  u32 r = atomicAdd(&h[a[t] & 15], 1u);
  atomicAdd(&f, (float)a[t]);
  atomicMax(&mx, a[t]);
  __syncthreads();
  if (t < 16) o[t] = h[t];
  o[16 + t] = r;
  if (t == 0) { of[0] = f; of[1] = (float)mx; }
}
K void handoff(u32* flag, u32* o) {             // workgroup 0 waits for workgroup 1
  if (blockIdx.x == 0) {
    while (__hip_atomic_load(flag, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_AGENT) == 0) __builtin_amdgcn_s_sleep(1);
    o[threadIdx.x] = o[64 + threadIdx.x] + 1;
  } else {
    o[64 + threadIdx.x] = threadIdx.x * 3;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) __hip_atomic_store(flag, 1u, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_AGENT);
  }
}

