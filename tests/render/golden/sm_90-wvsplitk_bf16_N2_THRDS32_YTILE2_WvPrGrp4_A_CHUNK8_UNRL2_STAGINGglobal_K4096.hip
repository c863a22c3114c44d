// wvsplitk_bf16_N2_THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL2_STAGINGglobal_K4096   made by kgen from wvsplitk.hip.jinja; edit the template, not this file
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

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 2, YTILE = 2, WvPrGrp = 4, A_CHUNK = 8, UNRL = 2;
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 ROWS = 1;  // every lane works on the same row
constexpr u32 Y_TILES = YTILE / ROWS, N_TILES = (N + ROWS - 1) / ROWS;
constexpr u32 SLAB = WAVE / ROWS * A_CHUNK;  // K elements that the lanes cover with one chunk each
constexpr u32 STEP = SLAB * UNRL;            // K elements of one trip of the main loop
constexpr u32 PARTIALS = 1;              // independent sums per output
constexpr u32 K = 4096;

// Where a lane finds the operands of one tile. `offset` is the running byte offset of its K position, `imm` a constant on top.
struct Operands {
  const T* weight_row[Y_TILES];
  const T* act;
  u32 act_stride;

  MEMBER u32x4 weight(u32 y, u32 offset, u32 imm) const {
    return load16_once(weight_row[y], offset, imm);
  }
  MEMBER u32x4 activation(u32 n, u32 offset, u32 imm) const {
    return load16(act + static_cast<u64>(n) * act_stride, offset, imm);
  }
};

// sum += weight[:, first : end] * act[:, first : end] for this lane's part of K.
DEVICE void accumulate(Sum (&sum)[N_TILES][Y_TILES][PARTIALS], const Operands& at, u32 lane_k, u32 first, u32 end) {
  u32 k0 = first;
  u32 offset = (first + lane_k) * sizeof(T);
  const u32 act_skip = 0;
  const u32 main_end = end - (end - first) % STEP;
  NO_UNROLL
  for (; k0 < main_end; k0 += STEP, offset += STEP * sizeof(T)) {
    u32x4 w[UNRL][Y_TILES][PIECES];
    UNROLL
    for (u32 u = 0; u < UNRL; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 p = 0; p < PIECES; p++) w[u][y][p] = at.weight(y, offset, (u * SLAB + p * PIECE) * sizeof(T));
    issue_first();
    UNROLL
    for (u32 u = 0; u < UNRL; u++) {
      u32x4 x[N_TILES][PIECES];
      UNROLL
      for (u32 n = 0; n < N_TILES; n++)
        UNROLL
        for (u32 p = 0; p < PIECES; p++) x[n][p] = at.activation(n, offset - act_skip, (u * SLAB + p * PIECE) * sizeof(T));
      UNROLL
      for (u32 p = 0; p < PIECES; p++)
        UNROLL
        for (u32 n = 0; n < N_TILES; n++)
          UNROLL
          for (u32 y = 0; y < Y_TILES; y++) {
            Sum& s = sum[n][y][(u * PIECES + p) % PARTIALS];
            s = multiply<T>(w[u][y][p], x[n][p], s);
          }
    }
  }
  // What is left of K, slab by slab, each piece only where it lies inside.
  NO_UNROLL
  for (; k0 < end; k0 += SLAB, offset += SLAB * sizeof(T))
    UNROLL
    for (u32 p = 0; p < PIECES; p++) {
      if (k0 + lane_k + p * PIECE >= end) break;
      u32x4 w[Y_TILES];
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) w[y] = at.weight(y, offset, p * PIECE * sizeof(T));
      UNROLL
      for (u32 n = 0; n < N_TILES; n++) {
        const u32x4 x = at.activation(n, offset - act_skip, p * PIECE * sizeof(T));
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) sum[n][y][0] = multiply<T>(w[y], x, sum[n][y][0]);
      }
    }
}

// Add the lanes' sums, add bias, round once and store the rows of a tile that exist.
DEVICE void finish(Sum (&sum)[N_TILES][Y_TILES][PARTIALS], const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  const u32 lane = lane_id();
  UNROLL
  for (u32 n = 0; n < N; n++) {
    float value = 0;  // lane y keeps row m0 + y
    UNROLL
    for (u32 y = 0; y < YTILE; y++) {
      float total = sum[n][y][0];
      UNROLL
      for (u32 i = 1; i < PARTIALS; i++) total += sum[n][y][i];
      total = sum_over_wave(total);
      value = lane == y ? total : value;
    }
    const u32 m = m0 + lane;
    if (lane < YTILE && m < M) {
      if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
      out[static_cast<u64>(n) * M + m] = round_to<T>(value);
    }
  }
}

// weight [M, K] and act [N, K] with row strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_bf16_N2_THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL2_STAGINGglobal_K4096(
    const T* weight, const T* act, const T* bias, T* out, u32 M, u32 K_given,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 lane_k = lane_id() / ROWS * A_CHUNK;
  Operands at;
  at.act = act;
  at.act_stride = act_stride;

  for (u32 tile = group_id(); tile * (WvPrGrp * YTILE) < M; tile += groups) {
    const u32 m0 = (tile * WvPrGrp + wave_id()) * YTILE;
    if (m0 >= M) break;
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;  // beyond M: the last row again, not stored
      at.weight_row[y] = weight + static_cast<u64>(m) * weight_stride;
    }

    Sum sum[N_TILES][Y_TILES][PARTIALS] = {};
    accumulate(sum, at, lane_k, 0, K);
    finish(sum, bias, bias_stride, out, m0, M);
  }
}
