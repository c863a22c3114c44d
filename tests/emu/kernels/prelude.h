// What the emulator's test kernels need of HIP, in clang's builtins alone: no HIP header, no device library.
#pragma once

typedef unsigned u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef unsigned long long u64;
typedef decltype(sizeof 0) size_t;
typedef float f4 __attribute__((ext_vector_type(4)));
typedef float f8 __attribute__((ext_vector_type(8)));
typedef float f16v __attribute__((ext_vector_type(16)));
typedef u32 u2 __attribute__((ext_vector_type(2)));
typedef u32 u4 __attribute__((ext_vector_type(4)));
typedef __attribute__((__vector_size__(2 * sizeof(__bf16)))) __bf16 bf2;
typedef _Float16 h2 __attribute__((ext_vector_type(2)));
typedef _Float16 h4v __attribute__((ext_vector_type(4)));
typedef _Float16 h8v __attribute__((ext_vector_type(8)));
typedef _Float16 h16v __attribute__((ext_vector_type(16)));
typedef __bf16 bf8v __attribute__((ext_vector_type(8)));
typedef short s4 __attribute__((ext_vector_type(4)));
typedef short s8v __attribute__((ext_vector_type(8)));
typedef short s16v __attribute__((ext_vector_type(16)));
typedef int i2 __attribute__((ext_vector_type(2)));
typedef int i4 __attribute__((ext_vector_type(4)));
typedef int i8 __attribute__((ext_vector_type(8)));

#if defined(__gfx1100__) || defined(__gfx1151__)
#define G11 1
#elif defined(__gfx1201__)
#define G12 1
#else
#define G9 1
#endif

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __launch_bounds__(n) __attribute__((amdgpu_flat_work_group_size(1, n)))
#define K extern "C" __global__
#define D static inline __device__ __attribute__((always_inline))
#define BITS(T, x) __builtin_bit_cast(T, x)

// ---- indices; sizes come from the hidden arguments
#define AXES(name, e) \
  struct name##_t { \
    __declspec(property(get = get_x)) u32 x; __declspec(property(get = get_y)) u32 y; __declspec(property(get = get_z)) u32 z; \
    __device__ u32 get_x() const { return e(x, 0); } __device__ u32 get_y() const { return e(y, 1); } __device__ u32 get_z() const { return e(z, 2); } \
  }; \
  static const __device__ name##_t name;
#define THREAD(a, i) __builtin_amdgcn_workitem_id_##a()
#define BLOCK(a, i) __builtin_amdgcn_workgroup_id_##a()
#define BLOCK_SIZE(a, i) ((const __attribute__((address_space(4))) u16*)__builtin_amdgcn_implicitarg_ptr())[6 + i]
#define GRID(a, i) ((const __attribute__((address_space(4))) u32*)__builtin_amdgcn_implicitarg_ptr())[i]
AXES(threadIdx, THREAD)
AXES(blockIdx, BLOCK)
AXES(blockDim, BLOCK_SIZE)
AXES(gridDim, GRID)
#define warpSize ((int)__builtin_amdgcn_wavefrontsize())

// ---- bits of one type as another
D float __int_as_float(int x) { return BITS(float, x); }
D float __uint_as_float(u32 x) { return BITS(float, x); }
D int __float_as_int(float x) { return BITS(int, x); }
D u32 __float_as_uint(float x) { return BITS(u32, x); }

// ---- barriers, fences, lanes
D void __threadfence() { __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "agent"); }
D void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
D u32 __lane_id() {
  u32 low = __builtin_amdgcn_mbcnt_lo(~0u, 0);
  return warpSize == 64 ? __builtin_amdgcn_mbcnt_hi(~0u, low) : low;
}
D float from_lane(float x, int lane) { return __int_as_float(__builtin_amdgcn_ds_bpermute(lane * 4, __float_as_int(x))); }
D float __shfl(float x, int lane, int width = warpSize) {
  int self = __lane_id();
  return from_lane(x, (lane & (width - 1)) + (self & ~(width - 1)));
}
D float __shfl_xor(float x, int mask, int width = warpSize) {
  int self = __lane_id(), other = self ^ mask;
  return from_lane(x, other >= ((self + width) & ~(width - 1)) ? self : other);
}
D float __shfl_up(float x, u32 by, int width = warpSize) {
  int self = __lane_id(), other = self - by;
  return from_lane(x, other < (self & ~(width - 1)) ? self : other);
}
D float __shfl_down(float x, u32 by, int width = warpSize) {
  int self = __lane_id();
  return from_lane(x, (int)((self & (width - 1)) + by) >= width ? self : self + by);
}
#if G9
D u64 __ballot(bool p) { return __builtin_amdgcn_ballot_w64(p); }
#else
D u64 __ballot(bool p) { return __builtin_amdgcn_ballot_w32(p); }
#endif

// ---- atomics, device scope
#define ATOMIC(name, op) template <class T, class V> D T name(T* p, V v) { return __hip_atomic_fetch_##op(p, (T)v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }
ATOMIC(atomicAdd, add)
ATOMIC(atomicSub, sub)
ATOMIC(atomicMin, min)
ATOMIC(atomicMax, max)
ATOMIC(atomicAnd, and)
ATOMIC(atomicOr, or)
ATOMIC(atomicXor, xor)
ATOMIC(unsafeAtomicAdd, add)
D u32 atomicExch(u32* p, u32 v) { return __hip_atomic_exchange(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }
D u32 atomicCAS(u32* p, u32 expected, u32 v) {
  __hip_atomic_compare_exchange_strong(p, &expected, v, __ATOMIC_RELAXED, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  return expected;
}
D u32 atomicInc(u32* p, u32 v) { return __builtin_amdgcn_atomic_inc32(p, v, __ATOMIC_RELAXED, "agent"); }
D void atomicAddHalves(h2* p, h2 v) {
#if G11
  u32 *q = (u32*)p, old = *q;
  while (true) {
    u32 seen = atomicCAS(q, old, BITS(u32, BITS(h2, old) + v));
    if (seen == old) break;
    old = seen;
  }
#else
  __builtin_amdgcn_global_atomic_fadd_v2f16((__attribute__((address_space(1))) h2*)p, v);
#endif
}

// ---- integer arithmetic
template <class T> D T min(T a, T b) { return a < b ? a : b; }
template <class T> D T max(T a, T b) { return a > b ? a : b; }
D int abs(int x) { return x < 0 ? -x : x; }
D u32 __umulhi(u32 a, u32 b) { return (u64)a * b >> 32; }
D int __mulhi(int a, int b) { return (long long)a * b >> 32; }
D int __mul24(int a, int b) { return (int)((u32)a << 8) / 256 * ((int)((u32)b << 8) / 256); }
D int __popc(u32 x) { return __builtin_popcount(x); }
D int __popcll(u64 x) { return __builtin_popcountll(x); }
D int __clz(u32 x) { return x ? __builtin_clz(x) : 32; }
D int __clzll(u64 x) { return x ? __builtin_clzll(x) : 64; }
D int __ffs(int x) { return __builtin_ffs(x); }
D u32 __brev(u32 x) { return __builtin_bitreverse32(x); }

// ---- float arithmetic that the compiler expands without a library
D float __expf(float x) { return __builtin_amdgcn_exp2f(x * 1.44269504088896340736f); }
D float __logf(float x) { return __builtin_amdgcn_logf(x) * 0.69314718055994530942f; }
D float __saturatef(float x) { return __builtin_amdgcn_fmed3f(x, 0.f, 1.f); }

struct float2 { float x, y; };
D float2 make_float2(float x, float y) { return {x, y}; }
struct uint3 { u32 x, y, z; };
D uint3 make_uint3(u32 x, u32 y, u32 z) { return {x, y, z}; }
