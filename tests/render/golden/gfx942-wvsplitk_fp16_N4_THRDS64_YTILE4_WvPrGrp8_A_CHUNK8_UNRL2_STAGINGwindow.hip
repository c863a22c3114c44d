// wvsplitk_fp16_N4_THRDS64_YTILE4_WvPrGrp8_A_CHUNK8_UNRL2_STAGINGwindow   made by kgen from wvsplitk.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx942, wave64 ----
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(512, 512)))
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

// M output features (weight rows), N activation rows, K reduction.
using T = fp16;
constexpr u32 N = 4, YTILE = 4, WvPrGrp = 8, A_CHUNK = 8, UNRL = 2;
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 ROWS = 4;  // rows side by side in a wave: lane l works on row l % ROWS of a tile
constexpr u32 Y_TILES = YTILE / ROWS, N_TILES = (N + ROWS - 1) / ROWS;
constexpr u32 SLAB = WAVE / ROWS * A_CHUNK;  // K elements that the lanes cover with one chunk each
constexpr u32 STEP = SLAB * UNRL;            // K elements of one trip of the main loop
constexpr u32 PARTIALS = 1;              // independent sums per output

constexpr u32 WINDOW = 2048;  // K elements of every activation row that LDS holds at a time
SHARED u32x4 staged_act[N * WINDOW / PIECE];

// Copy act[:, first : first + count] to LDS rows of `pitch` elements; count is a multiple of PIECE.
DEVICE void stage(const T* act, u32 act_stride, u32 first, u32 count, u32 pitch) {
  UNROLL
  for (u32 n = 0; n < N; n++) {
    const T* row = act + static_cast<u64>(n) * act_stride + first;
    for (u32 k = thread_id() * PIECE; k < count; k += WvPrGrp * WAVE * PIECE)
      store16_lds(staged_act, (n * pitch + k) * sizeof(T), load16(row, k * sizeof(T)));
  }
}

// Where a lane finds the operands of one tile. `offset` is the running byte offset of its K position, `imm` a constant on top.
struct Operands {
  const T* weight_row[Y_TILES];
  u32 weight_lane[Y_TILES];  // byte offset of this lane's row
  u32 act_lane[N_TILES];
  u32 act_pitch;

  MEMBER u32x4 weight(u32 y, u32 offset, u32 imm) const {
    return load16_once(weight_row[y], weight_lane[y] + offset, imm);
  }
  MEMBER u32x4 activation(u32 n, u32 offset, u32 imm) const {
    return load16_lds(staged_act, act_lane[n] + offset, imm);
  }
};

// sum += weight[:, first : end] * act[:, first : end] for this lane's part of K; LDS row starts hold K = first.
DEVICE void accumulate(Sum (&sum)[N_TILES][Y_TILES][PARTIALS], const Operands& at, u32 lane_k, u32 first, u32 end) {
  u32 k0 = first;
  u32 offset = (first + lane_k) * sizeof(T);
  const u32 act_skip = first * sizeof(T);
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
      // The matrix instruction works for every lane, switched off or not: outside of K both sides are zero.
      u32x4 x[N_TILES] = {}, w[Y_TILES] = {};
      if (k0 + lane_k + p * PIECE < end) {
        UNROLL
        for (u32 n = 0; n < N_TILES; n++) x[n] = at.activation(n, offset - act_skip, p * PIECE * sizeof(T));
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) w[y] = at.weight(y, offset, p * PIECE * sizeof(T));
      }
      UNROLL
      for (u32 n = 0; n < N_TILES; n++)
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) sum[n][y][0] = multiply<T>(w[y], x[n], sum[n][y][0]);
    }
}

// Add the lanes' sums, add bias, round once and store the rows of a tile that exist.
DEVICE void finish(Sum (&sum)[N_TILES][Y_TILES][PARTIALS], const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  const u32 lane = lane_id();
  UNROLL
  for (u32 n_tile = 0; n_tile < N_TILES; n_tile++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      // Lane l < ROWS * ROWS keeps row l / ROWS of the tile for activation row l % ROWS.
      float value = sum_over_quads(sum[n_tile][y][0][0]);
      UNROLL
      for (u32 r = 1; r < ROWS; r++) {
        const float other = sum_over_quads(sum[n_tile][y][0][r]);
        value = lane / ROWS == r ? other : value;
      }
      const u32 n = n_tile * ROWS + lane % ROWS, m = m0 + y * ROWS + lane / ROWS;
      if (lane < ROWS * ROWS && n < N && m < M) {
        if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
        out[static_cast<u64>(n) * M + m] = round_to<T>(value);
      }
    }
}

// weight [M, K] and act [N, K] with row strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_fp16_N4_THRDS64_YTILE4_WvPrGrp8_A_CHUNK8_UNRL2_STAGINGwindow(
    const T* weight, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 lane_k = lane_id() / ROWS * A_CHUNK;
  Operands at;
  at.act_pitch = WINDOW;
  const u32 lane_row = lane_id() % ROWS;
  UNROLL
  for (u32 n = 0; n < N_TILES; n++) {
    const u32 row = n * ROWS + lane_row < N ? n * ROWS + lane_row : N - 1;  // beyond N: the last row again, not stored
    at.act_lane[n] = row * at.act_pitch * sizeof(T);
  }

  for (u32 tile = group_id(); tile * (WvPrGrp * YTILE) < M; tile += groups) {
    const u32 m0 = (tile * WvPrGrp + wave_id()) * YTILE;
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;  // beyond M: the last row again, not stored
      at.weight_row[y] = weight + static_cast<u64>(m) * weight_stride;
      at.weight_lane[y] = (lane_row < M - 1 - m ? lane_row : M - 1 - m) * weight_stride * sizeof(T);
    }

    Sum sum[N_TILES][Y_TILES][PARTIALS] = {};
    for (u32 first = 0; first < K; first += WINDOW) {
      const u32 end = K - first < WINDOW ? K : first + WINDOW;
      barrier();  // everyone is done with the last window
      stage(act, act_stride, first, end - first, WINDOW);
      barrier();
      if (m0 < M) accumulate(sum, at, lane_k, first, end);  // a wave without rows only helps to stage
    }
    if (m0 < M) finish(sum, bias, bias_stride, out, m0, M);
  }
}
