// llmm1_bf16_THRDS32_ROWS_PER_BLOCK4_WvPrGrp4_UNRL2   made by kgen from llmm1.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx1151, wave32 ----
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

// M output features (weight rows), K reduction; one activation row.
using T = bf16;
constexpr u32 ROWS_PER_BLOCK = 4, WvPrGrp = 4, UNRL = 2;
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 ROWS = 1;  // every lane works on the same row
constexpr u32 Y_TILES = ROWS_PER_BLOCK / ROWS;
constexpr u32 SLAB = WvPrGrp * WAVE / ROWS * PIECE;  // K elements that the group's lanes cover with one load each
constexpr u32 STEP = SLAB * UNRL;                    // K elements of one trip of the main loop

SHARED float wave_sums[WvPrGrp][ROWS_PER_BLOCK];

// weight [M, K] with row stride in elements, act [K]; bias null, [M] (bias_stride 0) or [1, M]; out [M].
GLOBAL void llmm1_bf16_THRDS32_ROWS_PER_BLOCK4_WvPrGrp4_UNRL2(
    const T* weight, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 m0 = group_id() * ROWS_PER_BLOCK;
  const u32 wave = wave_id(), lane = lane_id();
  const u32 lane_k = thread_id() / ROWS * PIECE;
  const T* weight_row[Y_TILES];
  UNROLL
  for (u32 y = 0; y < Y_TILES; y++) {
    const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;  // beyond M: the last row again, not stored
    weight_row[y] = weight + static_cast<u64>(m) * weight_stride;
  }

  Sum sum[Y_TILES] = {};
  u32 k0 = 0;
  u32 offset = lane_k * sizeof(T);
  const u32 main_end = K - K % STEP;
  NO_UNROLL
  for (; k0 < main_end; k0 += STEP, offset += STEP * sizeof(T)) {
    u32x4 w[UNRL][Y_TILES], x[UNRL];
    UNROLL
    for (u32 u = 0; u < UNRL; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) w[u][y] = load16_once(weight_row[y], offset, u * SLAB * sizeof(T));
    UNROLL
    for (u32 u = 0; u < UNRL; u++) x[u] = load16(act, offset, u * SLAB * sizeof(T));
    issue_first();
    UNROLL
    for (u32 u = 0; u < UNRL; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) sum[y] = multiply<T>(w[u][y], x[u], sum[y]);
  }
  // What is left of K, slab by slab; lanes outside of K bring zeros.
  NO_UNROLL
  for (; k0 < K; k0 += SLAB, offset += SLAB * sizeof(T)) {
    u32x4 w[Y_TILES] = {}, x = {};
    if (k0 + lane_k < K) {
      x = load16(act, offset);
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) w[y] = load16_once(weight_row[y], offset);
    }
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) sum[y] = multiply<T>(w[y], x, sum[y]);
  }

  // Sums of the lanes, then of the waves in their order.
  UNROLL
  for (u32 y = 0; y < Y_TILES; y++) {
    const float total = sum_over_wave(sum[y]);
    if (lane == 0) wave_sums[wave][y] = total;
  }
  barrier();
  const u32 m = m0 + thread_id();
  if (thread_id() < ROWS_PER_BLOCK && m < M) {
    float value = 0;
    UNROLL
    for (u32 i = 0; i < WvPrGrp; i++) value += wave_sums[i][thread_id()];
    if (bias) value += to_f32(bias[m]);
    out[m] = round_to<T>(value);
  }
}
