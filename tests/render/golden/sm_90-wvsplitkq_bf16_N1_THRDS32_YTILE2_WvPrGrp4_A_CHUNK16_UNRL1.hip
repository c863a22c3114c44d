// wvsplitkq_bf16_N1_THRDS32_YTILE2_WvPrGrp4_A_CHUNK16_UNRL1   made by kgen from wvsplitkq.hip.jinja; edit the template, not this file
// ---- prelude: NVIDIA sm_90, wave32 ----
#define GLOBAL extern "C" __global__ __launch_bounds__(128, 1)
#define DEVICE static __device__ __forceinline__
#define MEMBER __device__ __forceinline__
#define SHARED __shared__
#define SHARED_AT_LAUNCH extern __shared__  // sized by the launch
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
struct bf16 { u16 bits; };
struct fp16 { u16 bits; };
struct alignas(16) u32x4 {
  u32 v[4];
  MEMBER u32& operator[](u32 i) { return v[i]; }
  MEMBER u32 operator[](u32 i) const { return v[i]; }
};

constexpr u32 WAVE = 32;

DEVICE u32 lane_id() { return threadIdx.x % WAVE; }
DEVICE u32 thread_id() { return threadIdx.x; }
// Uniform over the wave, and the compiler knows. Only where all lanes of the wave are active: they meet in it.
DEVICE u32 wave_id() { return __shfl_sync(0xffffffffu, threadIdx.x / WAVE, 0); }
DEVICE u32 group_id() { return blockIdx.x; }

// All waves of the work-group meet; LDS writes before it are seen after it.
DEVICE void barrier() { __syncthreads(); }

// 16 bytes at base + lane_offset + imm (bytes) of memory that no one writes while the kernel runs.
// Volatile, or the compiler takes the load for arithmetic and makes it before the bounds check that guards it.
template <class T> DEVICE u32x4 load16(const T* base, u32 lane_offset, u32 imm = 0) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm);
  u32x4 r;
  asm volatile("ld.global.nc.v4.u32 { %0, %1, %2, %3 }, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "l"(at));
  return r;
}
// The same for data that is read once: it takes no place in L1. (Measured on an H200: L2::256B instead of 128B costs 6 % of the bandwidth.)
template <class T> DEVICE u32x4 load16_once(const T* base, u32 lane_offset, u32 imm = 0) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm);
  u32x4 r;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 { %0, %1, %2, %3 }, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "l"(at));
  return r;
}
// 16 bytes of LDS at base + lane_offset + imm (bytes).
template <class T> DEVICE u32x4 load16_lds(const T* base, u32 lane_offset, u32 imm = 0) {
  return *reinterpret_cast<const u32x4*>(reinterpret_cast<const char*>(base) + lane_offset + imm);
}
template <class T> DEVICE void store16_lds(T* base, u32 lane_offset, u32x4 value) {
  *reinterpret_cast<u32x4*>(reinterpret_cast<char*>(base) + lane_offset) = value;
}
// The loads above are volatile statements in program order; nothing more is needed to have them in flight first.
DEVICE void issue_first() {}

DEVICE float as_float(u32 x) { return __uint_as_float(x); }
DEVICE float to_f32(bf16 x) { return as_float(static_cast<u32>(x.bits) << 16); }
DEVICE float to_f32(fp16 x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits));
  return r;
}
// Round to nearest even.
template <class T> MEMBER T round_to(float x);
template <> MEMBER bf16 round_to<bf16>(float x) {
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
}
template <> MEMBER fp16 round_to<fp16>(float x) {
  fp16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
}

// One of the two 16-bit elements of a register, widened.
DEVICE float low_f32(u32 x, bf16) { return as_float(x << 16); }
DEVICE float high_f32(u32 x, bf16) { return as_float(x & 0xffff0000u); }
DEVICE float low_f32(u32 x, fp16) { return to_f32(fp16{static_cast<u16>(x)}); }
DEVICE float high_f32(u32 x, fp16) { return to_f32(fp16{static_cast<u16>(x >> 16)}); }

using Sum = float;
// sum + the 8 products of two 16-byte pieces, widened to fp32: this target has no 16-bit dot product that adds in fp32.
template <class T> DEVICE Sum multiply(u32x4 a, u32x4 b, Sum sum) {
  UNROLL
  for (u32 i = 0; i < 4; i++) {
    sum = fmaf(low_f32(a[i], T{}), low_f32(b[i], T{}), sum);
    sum = fmaf(high_f32(a[i], T{}), high_f32(b[i], T{}), sum);
  }
  return sum;
}

// Sum over the wave, in every lane.
DEVICE float sum_over_wave(float x) {
  UNROLL
  for (u32 distance = WAVE / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
// ---- end of prelude ----
// Two fp8 elements of a register, widened to fp32: `half` 0 the lower pair, 1 the upper.
DEVICE void widen_fp8(u32 x, u32 half, float& low, float& high) {
  u32 pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<u16>(x >> (16 * half))));
  low = low_f32(pair, fp16{});
  high = high_f32(pair, fp16{});
}
// sum + the 16 products of two 16-byte pieces of fp8, widened: this target multiplies fp8 on its matrix cores only.
DEVICE float multiply_fp8(u32x4 a, u32x4 b, float sum) {
  UNROLL
  for (u32 i = 0; i < 8; i++) {
    float a_low, a_high, b_low, b_high;
    widen_fp8(a[i / 2], i % 2, a_low, a_high);
    widen_fp8(b[i / 2], i % 2, b_low, b_high);
    sum = fmaf(a_low, b_low, sum);
    sum = fmaf(a_high, b_high, sum);
  }
  return sum;
}

// M output features (weight rows), N activation rows, K reduction; weight and act are bytes of e4m3.
using T = bf16;
using u8 = unsigned char;
constexpr u32 N = 1, YTILE = 2, WvPrGrp = 4, A_CHUNK = 16, UNRL = 1;
constexpr u32 PIECE = 16;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 ROWS = 1;  // every lane works on the same rows
constexpr u32 Y_TILES = YTILE, N_TILES = N;
constexpr u32 SLAB = WvPrGrp * WAVE / ROWS * A_CHUNK;  // K elements that the group's lanes cover with one chunk each
constexpr u32 STEP = SLAB * UNRL;                      // K elements of one trip of the main loop

SHARED float wave_sums[WvPrGrp][N][YTILE];

// Strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitkq_bf16_N1_THRDS32_YTILE2_WvPrGrp4_A_CHUNK16_UNRL1(
    const u8* weight, const u8* act, const T* bias, T* out, const float* weight_scale, const float* act_scale,
    u32 M, u32 K, u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 m0 = group_id() * YTILE;
  const u32 wave = wave_id(), lane = lane_id();
  const u32 lane_k = thread_id() / ROWS * A_CHUNK;
  // Rows beyond M and N: the last row again, not stored.
  const u8* weight_row[Y_TILES];
  UNROLL
  for (u32 y = 0; y < Y_TILES; y++) {
    const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
    weight_row[y] = weight + static_cast<u64>(m) * weight_stride;
  }

  float sum[N_TILES][Y_TILES] = {};
  u32 k0 = 0;
  u32 offset = lane_k;
  const u32 main_end = K - K % STEP;
  NO_UNROLL
  for (; k0 < main_end; k0 += STEP, offset += STEP) {
    u32x4 w[UNRL][Y_TILES][PIECES];
    UNROLL
    for (u32 u = 0; u < UNRL; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 p = 0; p < PIECES; p++) w[u][y][p] = load16_once(weight_row[y], offset, u * SLAB + p * PIECE);
    issue_first();
    UNROLL
    for (u32 u = 0; u < UNRL; u++)
      UNROLL
      for (u32 p = 0; p < PIECES; p++)
        UNROLL
        for (u32 n = 0; n < N_TILES; n++) {
          const u32x4 x = load16(act + static_cast<u64>(n) * act_stride, offset, u * SLAB + p * PIECE);
          UNROLL
          for (u32 y = 0; y < Y_TILES; y++) sum[n][y] = multiply_fp8(w[u][y][p], x, sum[n][y]);
        }
  }
  // What is left of K, slab by slab, each piece only where it lies inside; outside both sides are zero.
  NO_UNROLL
  for (; k0 < K; k0 += SLAB, offset += SLAB)
    UNROLL
    for (u32 p = 0; p < PIECES; p++) {
      u32x4 w[Y_TILES] = {}, x[N_TILES] = {};
      if (k0 + lane_k + p * PIECE < K) {
        UNROLL
        for (u32 n = 0; n < N_TILES; n++) x[n] = load16(act + static_cast<u64>(n) * act_stride, offset, p * PIECE);
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) w[y] = load16_once(weight_row[y], offset, p * PIECE);
      }
      UNROLL
      for (u32 n = 0; n < N_TILES; n++)
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) sum[n][y] = multiply_fp8(w[y], x[n], sum[n][y]);
    }

  UNROLL
  for (u32 n = 0; n < N; n++)
    UNROLL
    for (u32 y = 0; y < YTILE; y++) {
      const float total = sum_over_wave(sum[n][y]);
      if (lane == 0) wave_sums[wave][n][y] = total;
    }
  barrier();

  // The waves' sums in their order, scaled and rounded once.
  const float scale = *weight_scale * *act_scale;
  for (u32 i = thread_id(); i < N * YTILE; i += WvPrGrp * WAVE) {
    const u32 n = i / YTILE, m = m0 + i % YTILE;
    if (m >= M) continue;
    float value = 0;
    UNROLL
    for (u32 from = 0; from < WvPrGrp; from++) value += wave_sums[from][n][i % YTILE];
    value *= scale;
    if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
    out[static_cast<u64>(n) * M + m] = round_to<T>(value);
  }
}
