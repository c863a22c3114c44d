// wvsplitkq_fp16_N2_THRDS32_YTILE4_WvPrGrp4_A_CHUNK16_UNRL1   made by kgen from wvsplitkq.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx1201, wave32 ----
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(128, 128)))
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

constexpr u32 WAVE = 32;

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

// sum + a.x*b.x + a.y*b.y in fp32. The fp16 builtin, not inline assembly: gfx11 pairs its accumulating form two per instruction.
DEVICE float dot2(x2<fp16> a, x2<fp16> b, float sum) { return __builtin_amdgcn_fdot2(a, b, sum, false); }
DEVICE float dot2(x2<bf16> a, x2<bf16> b, float sum) { return __builtin_amdgcn_fdot2_f32_bf16(a, b, sum, false); }

using Sum = float;
// sum + the 8 products of two 16-byte pieces.
template <class T> DEVICE Sum multiply(u32x4 a, u32x4 b, Sum sum) {
  UNROLL
  for (u32 i = 0; i < 4; i++) {
    const u32 ai = a[i], bi = b[i];  // bit_cast of a vector's element in place takes element 0 (clang 22)
    sum = dot2(__builtin_bit_cast(x2<T>, ai), __builtin_bit_cast(x2<T>, bi), sum);
  }
  return sum;
}

template <u32 CTRL> DEVICE float dpp(float x) {
  return __builtin_bit_cast(float, __builtin_amdgcn_update_dpp(0, __builtin_bit_cast(i32, x), CTRL, 0xf, 0xf, true));
}
// Sum over the wave, in every lane: xor inside rows of 16 lanes (one add each), then across the two rows.
DEVICE float sum_over_wave(float x) {
  x += dpp<0x168>(x);
  x += dpp<0x164>(x);
  x += dpp<0x162>(x);
  x += dpp<0x161>(x);
  const i32 v = __builtin_bit_cast(i32, x);
  return x + __builtin_bit_cast(float, __builtin_amdgcn_permlanex16(v, v, 0x76543210, 0xfedcba98, false, false));
}
// ---- end of prelude ----
// sum + the 16 products of two 16-byte pieces of fp8.
DEVICE float multiply_fp8(u32x4 a, u32x4 b, float sum) {
  UNROLL
  for (u32 i = 0; i < 4; i++) {
    const u32 ai = a[i], bi = b[i];
    sum = __builtin_amdgcn_dot4_f32_fp8_fp8(ai, bi, sum);
  }
  return sum;
}

// M output features (weight rows), N activation rows, K reduction; weight and act are bytes of e4m3.
using T = fp16;
using u8 = unsigned char;
constexpr u32 N = 2, YTILE = 4, WvPrGrp = 4, A_CHUNK = 16, UNRL = 1;
constexpr u32 PIECE = 16;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 ROWS = 1;  // every lane works on the same rows
constexpr u32 Y_TILES = YTILE, N_TILES = N;
constexpr u32 SLAB = WvPrGrp * WAVE / ROWS * A_CHUNK;  // K elements that the group's lanes cover with one chunk each
constexpr u32 STEP = SLAB * UNRL;                      // K elements of one trip of the main loop

SHARED float wave_sums[WvPrGrp][N][YTILE];

// Strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitkq_fp16_N2_THRDS32_YTILE4_WvPrGrp4_A_CHUNK16_UNRL1(
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
