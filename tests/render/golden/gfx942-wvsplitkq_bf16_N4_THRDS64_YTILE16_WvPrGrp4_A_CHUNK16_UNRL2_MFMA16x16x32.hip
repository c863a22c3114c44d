// wvsplitkq_bf16_N4_THRDS64_YTILE16_WvPrGrp4_A_CHUNK16_UNRL2_MFMA16x16x32   made by kgen from wvsplitkq.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx942, wave64 ----
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(256, 256)))
#define DEVICE static inline __attribute__((device, always_inline))
#define MEMBER __attribute__((device, always_inline)) inline
#define SHARED __attribute__((shared))
#define SHARED_AT_LAUNCH extern __attribute__((shared))  // sized by the launch
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using bf16 = __bf16;
using fp16 = _Float16;
using u32x4 = u32 __attribute__((ext_vector_type(4)));
using f32x4 = float __attribute__((ext_vector_type(4)));
template <class T> using x2 = T __attribute__((ext_vector_type(2)));
template <class T> using x4 = T __attribute__((ext_vector_type(4)));

constexpr u32 WAVE = 64;

DEVICE u32 lane_id() { return __builtin_amdgcn_workitem_id_x() % WAVE; }
DEVICE u32 thread_id() { return __builtin_amdgcn_workitem_id_x(); }
// Uniform over the wave: the compiler keeps it, and what follows from it, in scalar registers.
DEVICE u32 wave_id() { return __builtin_amdgcn_readfirstlane(__builtin_amdgcn_workitem_id_x() / WAVE); }
DEVICE u32 group_id() { return __builtin_amdgcn_workgroup_id_x(); }

// All waves of the work-group meet; LDS writes before it are seen after it.
DEVICE void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

// 16 bytes at base + lane_offset + imm (bytes). With a uniform base this is one load: scalar base, 32-bit lane offset, immediate.
template <class T> DEVICE const u32x4* piece(const T* base, u32 lane_offset, u32 imm) {
  return reinterpret_cast<const u32x4*>(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm));
}
template <class T> DEVICE u32x4 load16(const T* base, u32 lane_offset, u32 imm = 0) { return *piece(base, lane_offset, imm); }
// The same for data that is read once: it does not displace what other work keeps in the caches.
template <class T> DEVICE u32x4 load16_once(const T* base, u32 lane_offset, u32 imm = 0) {
  return __builtin_nontemporal_load(piece(base, lane_offset, imm));
}
// 16 bytes of LDS at base + lane_offset + imm (bytes).
template <class T> DEVICE u32x4 load16_lds(const T* base, u32 lane_offset, u32 imm = 0) {
  return *reinterpret_cast<const u32x4*>(reinterpret_cast<const char*>(base) + lane_offset + imm);
}
template <class T> DEVICE void store16_lds(T* base, u32 lane_offset, u32x4 value) {
  *reinterpret_cast<u32x4*>(reinterpret_cast<char*>(base) + lane_offset) = value;
}
// The scheduler moves nothing across: what stands before is in flight when what follows starts.
DEVICE void issue_first() { __builtin_amdgcn_sched_barrier(0); }

DEVICE float to_f32(bf16 x) { return static_cast<float>(x); }
DEVICE float to_f32(fp16 x) { return static_cast<float>(x); }
template <class T> DEVICE T round_to(float x) { return static_cast<T>(x); }

// Sixteen independent 4x4x4 products, one for each group of four lanes: lane i of a group brings row i of A and of B (4 elements of K);
// element r of the sum in lane j is row r of A times row j of B. 2 registers each for A and B, 4 for the sum.
DEVICE f32x4 mfma(x4<fp16> a, x4<fp16> b, f32x4 sum) { return __builtin_amdgcn_mfma_f32_4x4x4f16(a, b, sum, 0, 0, 0); }
DEVICE f32x4 mfma(x4<bf16> a, x4<bf16> b, f32x4 sum) {
  using s16x4 = short __attribute__((ext_vector_type(4)));
  return __builtin_amdgcn_mfma_f32_4x4x4bf16_1k(__builtin_bit_cast(s16x4, a), __builtin_bit_cast(s16x4, b), sum, 0, 0, 0);
}

using Sum = f32x4;
// sum + the products of two 16-byte pieces, four rows of a by four rows of b in each group of four lanes.
template <class T> DEVICE Sum multiply(u32x4 a, u32x4 b, Sum sum) {
  using u32x2 = u32 __attribute__((ext_vector_type(2)));
  const u32x2 a_lo = a.xy, a_hi = a.zw, b_lo = b.xy, b_hi = b.zw;
  sum = mfma(__builtin_bit_cast(x4<T>, a_lo), __builtin_bit_cast(x4<T>, b_lo), sum);
  return mfma(__builtin_bit_cast(x4<T>, a_hi), __builtin_bit_cast(x4<T>, b_hi), sum);
}

template <u32 CTRL> DEVICE float dpp(float x) {
  return __builtin_bit_cast(float, __builtin_amdgcn_update_dpp(0, __builtin_bit_cast(i32, x), CTRL, 0xf, 0xf, true));
}
DEVICE float from_lane(float x, u32 lane) {
  return __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute(static_cast<i32>(lane * 4), __builtin_bit_cast(i32, x)));
}
// Sum over the lanes of equal place in their group of four, in every lane: rotations by 4 and 8 inside rows of 16, then across the rows.
DEVICE float sum_over_quads(float x) {
  x += dpp<0x124>(x);
  x += dpp<0x128>(x);
  x += from_lane(x, lane_id() ^ 16);
  return x + from_lane(x, lane_id() ^ 32);
}
// ---- end of prelude ----
// One 16x16x32 product: lane l brings 8 elements of row l % 16 of a and of b; the sum runs over all of K of the wave. Element r of the
// result in lane l is row 4 * (l / 16) + r of a times row l % 16 of b.
using SumFp8 = float __attribute__((ext_vector_type(4)));
constexpr u32 SUM_ELEMENTS = 4;
DEVICE u32 sum_row(u32 lane, u32 r) { return 4 * (lane / 16) + r; }
// sum + the products of two 16-byte pieces of fp8.
DEVICE SumFp8 multiply_fp8(u32x4 a, u32x4 b, SumFp8 sum) {
  using u64x2 = u64 __attribute__((ext_vector_type(2)));
  const u64x2 a2 = __builtin_bit_cast(u64x2, a), b2 = __builtin_bit_cast(u64x2, b);
  const u64 a_lo = a2.x, a_hi = a2.y, b_lo = b2.x, b_hi = b2.y;
  sum = __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(static_cast<long>(a_lo), static_cast<long>(b_lo), sum, 0, 0, 0);
  return __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(static_cast<long>(a_hi), static_cast<long>(b_hi), sum, 0, 0, 0);
}

// M output features (weight rows), N activation rows, K reduction; weight and act are bytes of e4m3.
using T = bf16;
using u8 = unsigned char;
constexpr u32 N = 4, YTILE = 16, WvPrGrp = 4, A_CHUNK = 16, UNRL = 2;
constexpr u32 PIECE = 16;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 ROWS = 16;  // rows side by side in a wave: lane l holds row l % ROWS of the weights and of the activations
constexpr u32 Y_TILES = YTILE / ROWS, N_TILES = 1;
constexpr u32 SLAB = WvPrGrp * WAVE / ROWS * A_CHUNK;  // K elements that the group's lanes cover with one chunk each
constexpr u32 STEP = SLAB * UNRL;                      // K elements of one trip of the main loop

SHARED float wave_sums[WvPrGrp][N][YTILE];

// Strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitkq_bf16_N4_THRDS64_YTILE16_WvPrGrp4_A_CHUNK16_UNRL2_MFMA16x16x32(
    const u8* weight, const u8* act, const T* bias, T* out, const float* weight_scale, const float* act_scale,
    u32 M, u32 K, u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 m0 = group_id() * YTILE;
  const u32 wave = wave_id(), lane = lane_id();
  const u32 lane_k = thread_id() / ROWS * A_CHUNK;
  // Rows beyond M and N: the last row again, not stored.
  const u8* weight_row[Y_TILES];
  u32 weight_lane[Y_TILES];  // byte offset of this lane's row
  const u32 lane_row = lane % ROWS;
  const u32 act_lane = (lane_row < N ? lane_row : N - 1) * act_stride;
  UNROLL
  for (u32 y = 0; y < Y_TILES; y++) {
    const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
    weight_row[y] = weight + static_cast<u64>(m) * weight_stride;
    weight_lane[y] = (lane_row < M - 1 - m ? lane_row : M - 1 - m) * weight_stride;
  }

  SumFp8 sum[N_TILES][Y_TILES] = {};
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
        for (u32 p = 0; p < PIECES; p++) w[u][y][p] = load16_once(weight_row[y], weight_lane[y] + offset, u * SLAB + p * PIECE);
    issue_first();
    UNROLL
    for (u32 u = 0; u < UNRL; u++)
      UNROLL
      for (u32 p = 0; p < PIECES; p++)
        UNROLL
        for (u32 n = 0; n < N_TILES; n++) {
          const u32x4 x = load16(act, act_lane + offset, u * SLAB + p * PIECE);
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
        for (u32 n = 0; n < N_TILES; n++) x[n] = load16(act, act_lane + offset, p * PIECE);
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) w[y] = load16_once(weight_row[y], weight_lane[y] + offset, p * PIECE);
      }
      UNROLL
      for (u32 n = 0; n < N_TILES; n++)
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) sum[n][y] = multiply_fp8(w[y], x[n], sum[n][y]);
    }

  // Lane l holds column l % ROWS of the result, one activation row; the wave's K is already summed.
  if (lane_row < N) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++)
      UNROLL
      for (u32 r = 0; r < SUM_ELEMENTS; r++) wave_sums[wave][lane_row][y * ROWS + sum_row(lane, r)] = sum[0][y][r];
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
