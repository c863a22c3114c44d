// wvsplitk_fp16_N6_THRDS64_YTILE16_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGwindow_MATRIX16   made by kgen from wvsplitk.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx950, wave64 ----
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

// ---- prelude: matrix tiles, staging, device scope; AMD gfx950 ----
using u32x8 = u32 __attribute__((ext_vector_type(8)));
using f32x8 = float __attribute__((ext_vector_type(8)));
#define ON_DEVICE __attribute__((device))

// A block is what one multiplication of 16x16 tiles takes of one operand: 16 rows of 32 elements of K, 64 pieces of 16 bytes in LDS.
// Slot s holds row s / 4, piece (s ^ s / 8) % 4: four neighbouring lanes read 64 bytes in a row of memory, and eight lanes that read
// one piece of eight rows meet all banks of LDS once.
DEVICE u32 slot_row(u32 slot) { return slot / 4; }
DEVICE u32 slot_piece(u32 slot) { return (slot ^ slot / 8) % 4; }
DEVICE u32 slot_of(u32 row, u32 piece) { return row * 4 + (piece ^ row / 2 % 4); }

// Uniform over the wave: the compiler may keep it in a scalar register.
DEVICE u32 uniform(u32 x) { return __builtin_amdgcn_readfirstlane(x); }

// A lane holds one piece of one row. 4 registers for a fragment, 4 for a tile of sums.
using Fragment = u32x4;
using Tile = f32x4;
constexpr u32 TILE_ELEMENTS = 4;  // of a lane
DEVICE Fragment load_fragment(const u32x4* block) { return block[slot_of(lane_id() % 16, lane_id() / 16)]; }
// Where element i of a lane's share of a tile lies: row of the first operand, row of the second.
DEVICE u32 tile_row(u32 i) { return lane_id() / 16 * 4 + i; }
DEVICE u32 tile_col(u32) { return lane_id() % 16; }
// sum[row, col] + the products of row `row` of a with row `col` of b, over 32 elements of K.
template <class T> DEVICE Tile multiply_tiles(Fragment a, Fragment b, Tile sum);
template <class T> using x8 = T __attribute__((ext_vector_type(8)));
template <> MEMBER Tile multiply_tiles<fp16>(Fragment a, Fragment b, Tile sum) {
  return __builtin_amdgcn_mfma_f32_16x16x32_f16(__builtin_bit_cast(x8<fp16>, a), __builtin_bit_cast(x8<fp16>, b), sum, 0, 0, 0);
}
template <> MEMBER Tile multiply_tiles<bf16>(Fragment a, Fragment b, Tile sum) {
  return __builtin_amdgcn_mfma_f32_16x16x32_bf16(__builtin_bit_cast(x8<bf16>, a), __builtin_bit_cast(x8<bf16>, b), sum, 0, 0, 0);
}

// Staging: every lane brings 16 bytes from its own address into `to` + its lane, `to` uniform. fetch starts, land ends it; `landed` before
// the barrier behind which others read. `once` marks data that no other work-group reads soon.
// By DMA: nothing passes registers, so all of it is in flight at once.
struct Fetched {};
template <bool ONCE> DEVICE Fetched fetch16(const void* from, u32x4* to) {
  __builtin_amdgcn_global_load_lds(
      (__attribute__((address_space(1))) void*)from, (__attribute__((address_space(3))) void*)to, 16, 0, ONCE ? 2 : 0);  // 2: nt
  return {};
}
DEVICE void land16(Fetched, u32x4*) {}
DEVICE void landed() { __builtin_amdgcn_s_waitcnt(0x0f70); }  // vmcnt(0); the others as they are

// Memory that work-groups share while they run. Relaxed accesses at device scope, past the caches that are not coherent.
#define AT_DEVICE __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT
DEVICE void store_shared(float* at, float x) { __hip_atomic_store(at, x, AT_DEVICE); }
DEVICE float load_shared(const float* at) { return __hip_atomic_load(at, AT_DEVICE); }
DEVICE void store_shared(u32* at, u32 x) { __hip_atomic_store(at, x, AT_DEVICE); }
// 16 bytes as two pairs.
DEVICE void store_shared(float* at, f32x4 x) {
  using u64x2 = u64 __attribute__((ext_vector_type(2)));
  const u64x2 bits = __builtin_bit_cast(u64x2, x);
  u64* to = reinterpret_cast<u64*>(at);
  __hip_atomic_store(to, bits.x, AT_DEVICE);
  __hip_atomic_store(to + 1, bits.y, AT_DEVICE);
}
DEVICE f32x4 load_shared4(const float* at) {
  using u64x2 = u64 __attribute__((ext_vector_type(2)));
  const u64* from = reinterpret_cast<const u64*>(at);
  const u64x2 bits = {__hip_atomic_load(from, AT_DEVICE), __hip_atomic_load(from + 1, AT_DEVICE)};
  return __builtin_bit_cast(f32x4, bits);
}
// *at += x; the hardware's own addition, whatever the memory is.
DEVICE void add_shared(float* at, float x) {
  __builtin_amdgcn_global_atomic_fadd_f32((__attribute__((address_space(1))) float*)at, x);
}
// Releases at device scope what this work-group wrote before the last barrier, acquires what others released; answers the count before.
DEVICE u32 arrive(u32* counter) { return __hip_atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT); }
// This wave's stores to shared memory are done when it returns.
DEVICE void stores_done() {
  __builtin_amdgcn_s_waitcnt(0x0f70);  // vmcnt(0); the others as they are
}
// ---- end of prelude ----

// ---- prelude: weight rows side by side; AMD gfx950 ----
// Sixteen rows: lane l holds row l % 16 and the part l / 16 of every slab of K. It multiplies as the second operand, so that the sums of a lane
// belong to its own row.
using Sums = f32x4;
constexpr u32 ACT_PIECES = 1;  // pieces of activations for one of weights: 16 activation rows
constexpr u32 LANE_SUMS = 4;   // of a lane that keeps sums: all do
DEVICE u32 lane_row() { return lane_id() % 16; }
DEVICE u32 lane_part() { return lane_id() / 16; }
DEVICE u32 act_row(u32) { return lane_id() % 16; }
// sums + the products of each row's piece with that of each activation row.
template <class T> DEVICE Sums multiply_rows(u32x4 row, const u32x4 (&act)[ACT_PIECES], Sums sums) { return multiply_tiles<T>(act[0], row, sums); }
DEVICE Sums add_sums(Sums a, Sums b) { return a + b; }
// Sum i of a lane: its row, activation row sum_row(i).
DEVICE float whole_sum(Sums sums, u32 i) { return sums[i]; }
DEVICE u32 sum_row(u32 i) { return lane_id() / 16 * 4 + i; }
DEVICE bool keeps_sums() { return true; }
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = fp16;
constexpr u32 N = 6, YTILE = 16, WvPrGrp = 4, A_CHUNK = 8, UNRL = 4;
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 ROWS = 16;   // rows side by side in a wave
constexpr u32 K_LANES = 4;  // lanes of each row, which split K
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one piece each
constexpr u32 STEP = SLAB * UNRL;            // K elements of one trip of the main loop
constexpr u32 PARTIALS = 4;              // independent sums per output

constexpr u32 WINDOW = 1280;  // K elements of every activation row that LDS holds at a time
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

// Where this lane finds its pieces: for each of its rows the address of its part of a slab.
struct Operands {
  const T* weight[Y_TILES];
  u32 act[ACT_PIECES];  // in bytes of LDS

  // Activation rows in LDS, `pitch` elements apart; beyond N the last row again, which is not stored.
  MEMBER void set_act(u32 pitch) {
    UNROLL
    for (u32 j = 0; j < ACT_PIECES; j++) {
      const u32 n = act_row(j) < N ? act_row(j) : N - 1;
      act[j] = (n * pitch + lane_part() * PIECE) * sizeof(T);
    }
  }
  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set_weight(const T* rows, u32 stride, u32 m0, u32 M) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS + lane_row();
      weight[y] = rows + (static_cast<u64>(m < M ? m : M - 1) * stride + lane_part() * PIECE);
    }
  }
  MEMBER void advance(u32 elements) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) weight[y] += elements;
    UNROLL
    for (u32 j = 0; j < ACT_PIECES; j++) act[j] += elements * sizeof(T);
  }
};

// One trip: UNRL slabs of all rows, everything on its way before the first product. GUARDED: `left` elements are left of K, fewer than a
// trip takes; beyond them both sides are zero, for the instruction works on all lanes.
template <bool GUARDED> DEVICE void multiply_trip(Sums (&sum)[Y_TILES][PARTIALS], const Operands& at, u32 left) {
  const u32 lane_left = left + SLAB - 1 - lane_part() * PIECE;
  const auto inside = [=](u32 u) { return !GUARDED || (u + 1) * SLAB <= lane_left; };  // K is whole pieces
  u32x4 w[UNRL][Y_TILES], x[UNRL][ACT_PIECES];
  UNROLL
  for (u32 u = 0; u < UNRL; u++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      if (GUARDED) w[u][y] = {};
      if (inside(u)) w[u][y] = load16_once(at.weight[y], 0, u * SLAB * sizeof(T));
    }
  UNROLL
  for (u32 u = 0; u < UNRL; u++)
    UNROLL
    for (u32 j = 0; j < ACT_PIECES; j++) {
      if (GUARDED) x[u][j] = {};
      if (inside(u)) x[u][j] = load16_lds(staged_act, at.act[j], u * SLAB * sizeof(T));
    }
  issue_first();
  UNROLL
  for (u32 u = 0; u < UNRL; u++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) sum[y][u % PARTIALS] = multiply_rows<T>(w[u][y], x[u], sum[y][u % PARTIALS]);
}

// sum += weight[:, first : end] * act[:, first : end]; LDS row starts hold K = first.
DEVICE void accumulate(Sums (&sum)[Y_TILES][PARTIALS], Operands at, u32 first, u32 end) {
  u32 k = first;
  UNROLL
  for (u32 j = 0; j < ACT_PIECES; j++) at.act[j] -= first * sizeof(T);
  at.advance(k);
  NO_UNROLL
  for (; k + STEP <= end; k += STEP, at.advance(STEP)) multiply_trip<false>(sum, at, STEP);
  if (k < end) multiply_trip<true>(sum, at, end - k);
}

// Add bias, round once and store the rows of a tile that exist: the instruction has added the lanes' parts of K.
DEVICE void finish(const Sums (&sum)[Y_TILES][PARTIALS], const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  UNROLL
  for (u32 y = 0; y < Y_TILES; y++) {
    Sums total = sum[y][0];
    UNROLL
    for (u32 p = 1; p < PARTIALS; p++) total = add_sums(total, sum[y][p]);
    UNROLL
    for (u32 i = 0; i < LANE_SUMS; i++) {
      float value = whole_sum(total, i);
      const u32 n = sum_row(i), row = y * ROWS + lane_row();
      if (keeps_sums() && n < N && m0 + row < M) {
        if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m0 + row]);
        out[static_cast<u64>(n) * M + m0 + row] = round_to<T>(value);
      }
    }
  }
}

// weight [M, K] and act [N, K] with row strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_fp16_N6_THRDS64_YTILE16_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGwindow_MATRIX16(
    const T* weight, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  Operands at;
  at.set_act(WINDOW);

  for (u32 tile = group_id(); tile * (WvPrGrp * YTILE) < M; tile += groups) {
    const u32 m0 = (tile * WvPrGrp + wave_id()) * YTILE;
    at.set_weight(weight, weight_stride, m0, M);
    Sums sum[Y_TILES][PARTIALS] = {};
    NO_UNROLL
    for (u32 first = 0; first < K; first += WINDOW) {
      const u32 end = K - first < WINDOW ? K : first + WINDOW;
      barrier();  // everyone is done with the last window
      stage(act, act_stride, first, end - first, WINDOW);
      barrier();
      if (m0 < M) accumulate(sum, at, first, end);  // a wave without rows only helps to stage
    }
    if (m0 < M) finish(sum, bias, bias_stride, out, m0, M);
  }
}
