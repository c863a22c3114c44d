// wvsplitk_bf16_N1_THRDS32_YTILE1_WvPrGrp8_K_WAVES8_A_CHUNK8_UNRL4_STAGINGglobal   made by kgen from wvsplitk.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx1100, wave32 ----
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

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 1, YTILE = 1, WvPrGrp = 8, A_CHUNK = 8, UNRL = 4;
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 K_WAVES = 8;  // waves that share the K of a tile
constexpr u32 ROWS = 1;  // every lane works on the same row
constexpr u32 Y_TILES = YTILE / ROWS, N_TILES = (N + ROWS - 1) / ROWS;
constexpr u32 SLAB = WAVE / ROWS * A_CHUNK;  // K elements that the lanes cover with one chunk each
constexpr u32 STEP = SLAB * UNRL;            // K elements of one trip of the main loop
constexpr u32 PARTIALS = 2;              // independent sums per output

constexpr u32 GROUP_ROWS = WvPrGrp / K_WAVES * YTILE;  // rows of a work-group's tile
constexpr u32 ROUND = WvPrGrp * N * YTILE;
SHARED float exchanged[2 * ROUND];  // [round][wave][n][row]; two rounds, so that one barrier per tile is enough
DEVICE u32 slot_of_sum(u32 round, u32 wave, u32 n, u32 row) { return round * ROUND + (wave * N + n) * YTILE + row; }

// Add what the waves brought for the tile that begins at row m0, add bias, round once and store the rows that exist.
DEVICE void finish_shared(u32 round, const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  NO_UNROLL
  for (u32 i = thread_id(); i < GROUP_ROWS * N; i += WvPrGrp * WAVE) {
    const u32 n = i / GROUP_ROWS, row = i % GROUP_ROWS, m = m0 + row;
    if (m >= M) continue;
    float value = 0;
    UNROLL
    for (u32 wave = 0; wave < K_WAVES; wave++) value += exchanged[slot_of_sum(round, row / YTILE * K_WAVES + wave, n, row % YTILE)];
    if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
    out[static_cast<u64>(n) * M + m] = round_to<T>(value);
  }
}

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
// A wave takes every K_WAVES-th trip, and of what is left every K_WAVES-th slab, from the other end.
DEVICE void accumulate(Sum (&sum)[N_TILES][Y_TILES][PARTIALS], const Operands& at, u32 k_wave, u32 lane_k, u32 first, u32 end) {
  u32 k0 = first + k_wave * STEP;
  u32 offset = (k0 + lane_k) * sizeof(T);
  const u32 act_skip = 0;
  const u32 main_end = end - (end - first) % STEP;
  NO_UNROLL
  for (; k0 < main_end; k0 += K_WAVES * STEP, offset += K_WAVES * STEP * sizeof(T)) {
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
  k0 = main_end + (K_WAVES - 1 - k_wave) * SLAB;
  offset = (k0 + lane_k) * sizeof(T);
  NO_UNROLL
  for (; k0 < end; k0 += K_WAVES * SLAB, offset += K_WAVES * SLAB * sizeof(T))
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

// Add the lanes' sums and bring them to LDS.
DEVICE void exchange(Sum (&sum)[N_TILES][Y_TILES][PARTIALS], u32 wave, u32 round) {
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
    if (lane < YTILE) exchanged[slot_of_sum(round, wave, n, lane)] = value;
  }
}

// weight [M, K] and act [N, K] with row strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_bf16_N1_THRDS32_YTILE1_WvPrGrp8_K_WAVES8_A_CHUNK8_UNRL4_STAGINGglobal(
    const T* weight, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 wave = wave_id(), k_wave = wave % K_WAVES, row_wave = wave / K_WAVES;
  const u32 lane_k = lane_id() / ROWS * A_CHUNK;
  Operands at;
  at.act = act;
  at.act_stride = act_stride;

  u32 round = 0;
  for (u32 tile = group_id(); tile * GROUP_ROWS < M; tile += groups, round ^= 1) {
    const u32 m0 = tile * GROUP_ROWS + row_wave * YTILE;
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;  // beyond M: the last row again, not stored
      at.weight_row[y] = weight + static_cast<u64>(m) * weight_stride;
    }

    Sum sum[N_TILES][Y_TILES][PARTIALS] = {};
    if (m0 < M) accumulate(sum, at, k_wave, lane_k, 0, K);
    exchange(sum, wave, round);
    barrier();
    finish_shared(round, bias, bias_stride, out, tile * GROUP_ROWS, M);
  }
}
