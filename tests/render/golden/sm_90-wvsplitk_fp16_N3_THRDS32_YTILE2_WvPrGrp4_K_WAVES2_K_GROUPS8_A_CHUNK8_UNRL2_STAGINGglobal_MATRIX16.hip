// wvsplitk_fp16_N3_THRDS32_YTILE2_WvPrGrp4_K_WAVES2_K_GROUPS8_A_CHUNK8_UNRL2_STAGINGglobal_MATRIX16   made by kgen from wvsplitk.hip.jinja; edit the template, not this file
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

// ---- prelude: clusters; NVIDIA sm_90 ----
#define CLUSTER __cluster_dims__(8, 1, 1)
// Which of its cluster this work-group is.
DEVICE u32 group_of_cluster() {
  u32 r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
// All work-items of the cluster meet; LDS writes before it are seen by all after it.
DEVICE void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}
// The same without a word about memory: nothing was written that others look for, and what was read has been used.
DEVICE void cluster_end() { asm volatile("barrier.cluster.arrive.relaxed;\n\tbarrier.cluster.wait;" ::: "memory"); }
// What work-group `group` of the cluster has where this one has `at`, an address of LDS.
DEVICE float load_of_group(const float* at, u32 group) {
  float x;
  const u32 here = static_cast<u32>(__cvta_generic_to_shared(at));
  asm volatile("{\n\t.reg .u32 there;\n\tmapa.shared::cluster.u32 there, %1, %2;\n\tld.shared::cluster.f32 %0, [there];\n\t}"
               : "=f"(x) : "r"(here), "r"(group) : "memory");
  return x;
}
// ---- end of prelude ----

// ---- prelude: matrix tiles, staging, device scope; NVIDIA sm_90 ----
#define ON_DEVICE static __device__
struct alignas(16) f32x4 {
  float v[4];
  MEMBER float& operator[](u32 i) { return v[i]; }
  MEMBER float operator[](u32 i) const { return v[i]; }
};

// A block is what one multiplication of 16x16 tiles takes of one operand: 16 rows of 32 elements of K, 64 pieces of 16 bytes in LDS.
// Slot s holds row s / 4, piece (s ^ s / 8) % 4: four neighbouring lanes read 64 bytes in a row of memory, and eight lanes that read
// one piece of eight rows meet all banks of LDS once.
DEVICE u32 slot_row(u32 slot) { return slot / 4; }
DEVICE u32 slot_piece(u32 slot) { return (slot ^ slot / 8) % 4; }
DEVICE u32 slot_of(u32 row, u32 piece) { return row * 4 + (piece ^ row / 2 % 4); }

DEVICE u32 uniform(u32 x) { return x; }  // what is the same in all lanes needs no telling here

// A lane holds one piece of two rows, 8 apart; K is taken in the order in which the pieces lie in the lanes, alike for both operands.
struct Fragment { u32x4 row[2]; };
struct Tile {
  float v[8];
  MEMBER float& operator[](u32 i) { return v[i]; }
  MEMBER float operator[](u32 i) const { return v[i]; }
};
constexpr u32 TILE_ELEMENTS = 8;  // of a lane
DEVICE Fragment load_fragment(const u32x4* block) {
  const u32 row = lane_id() / 4, piece = lane_id() % 4;
  return { {block[slot_of(row, piece)], block[slot_of(row + 8, piece)]} };
}
// Where element i of a lane's share of a tile lies: row of the first operand, row of the second.
DEVICE u32 tile_row(u32 i) { return lane_id() / 4 + i % 4 / 2 * 8; }
DEVICE u32 tile_col(u32 i) { return i / 4 * 8 + lane_id() % 4 * 2 + i % 2; }

#define MMA_M16N8K16(TYPE)                                                                                      \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 { %0, %1, %2, %3}, { %4, %5, %6, %7}, { %8, %9}, { %0, %1, %2, %3};" \
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                                  \
      : "r"(a.row[0][2 * s]), "r"(a.row[1][2 * s]), "r"(a.row[0][2 * s + 1]), "r"(a.row[1][2 * s + 1]), "r"(b[2 * s]), "r"(b[2 * s + 1]))
// Columns 0 to 7 or 8 to 15 of a tile, step s of two along K.
DEVICE void mma(const Fragment& a, const u32x4& b, float* sum, u32 s, bf16) { MMA_M16N8K16("bf16"); }
DEVICE void mma(const Fragment& a, const u32x4& b, float* sum, u32 s, fp16) { MMA_M16N8K16("f16"); }
// sum[row, col] + the products of row `row` of a with row `col` of b, over 32 elements of K.
template <class T> DEVICE Tile multiply_tiles(const Fragment& a, const Fragment& b, Tile sum) {
  UNROLL
  for (u32 s = 0; s < 2; s++)
    UNROLL
    for (u32 half = 0; half < 2; half++) mma(a, b.row[half], sum.v + 4 * half, s, T{});
  return sum;
}

// Staging: every lane brings 16 bytes from its own address into `to` + its lane, `to` uniform. fetch starts, land ends it; `landed` before
// the barrier behind which others read. `once` marks data that no other work-group reads soon.
using Fetched = u32x4;
template <bool ONCE> DEVICE Fetched fetch16(const void* from, u32x4*) {
  return ONCE ? load16_once(static_cast<const char*>(from), 0) : load16(static_cast<const char*>(from), 0);
}
DEVICE void land16(Fetched piece, u32x4* to) { to[lane_id()] = piece; }
DEVICE void landed() {}

// Memory that work-groups share while they run. Relaxed accesses at device scope, past the caches that are not coherent.
DEVICE void store_shared(float* at, float x) { asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(at), "f"(x) : "memory"); }
DEVICE void store_shared(u32* at, u32 x) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(x) : "memory"); }
DEVICE float load_shared(const float* at) {
  float x;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(at) : "memory");
  return x;
}
DEVICE void store_shared(float* at, f32x4 x) {
  asm volatile("st.relaxed.gpu.global.v4.f32 [%0], { %1, %2, %3, %4};" ::"l"(at), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]) : "memory");
}
DEVICE f32x4 load_shared4(const float* at) {
  f32x4 x;
  asm volatile("ld.relaxed.gpu.global.v4.f32 { %0, %1, %2, %3}, [%4];" : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "l"(at) : "memory");
  return x;
}
// *at += x.
DEVICE void add_shared(float* at, float x) { asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(at), "f"(x) : "memory"); }
// Releases at device scope what this work-group wrote before the last barrier, acquires what others released; answers the count before.
DEVICE u32 arrive(u32* counter) {
  u32 before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}
// This wave's stores are ordered by the barrier and by `arrive`, whose release covers what the barrier made known.
DEVICE void stores_done() {}
// ---- end of prelude ----

// ---- prelude: weight rows side by side; NVIDIA sm_90 ----
// A lane's piece of 16 bytes is the first operand of the matrix instruction as it was loaded. To the instruction, registers 0 and 2 are elements
// of row l / 4 of sixteen, registers 1 and 3 elements of row l / 4 + 8: the halves of a piece are multiplied apart. So columns 0 to 3 of the second
// operand bring registers 0 and 2 of the activations, columns 4 to 7 registers 1 and 3.
// Two rows, each in 4 segments of four parts: lane l holds row l / 16 and the part l % 16 of every slab of K. Of four columns, all are one activation row,
// by segments; the sums count in which a segment meets itself.
constexpr u32 SEGMENTS = 4, ACT_ROWS = 4 / SEGMENTS;
constexpr u32 ACT_PIECES = 3;  // pieces of activations for one of weights, ACT_ROWS activation rows each
constexpr u32 LANE_SUMS = ACT_PIECES;  // of a lane that keeps sums
struct Sums { f32x4 of[ACT_PIECES]; };
DEVICE u32 lane_row() { return lane_id() / (4 * SEGMENTS); }
DEVICE u32 lane_part() { return lane_id() % (4 * SEGMENTS); }
DEVICE u32 act_row(u32 j) { return j * ACT_ROWS + lane_id() / 4 % 4 / SEGMENTS; }
// sums + the products of each row's piece with that of each activation row.
template <class T> DEVICE Sums multiply_rows(u32x4 row, const u32x4 (&act)[ACT_PIECES], Sums sums) {
  const Fragment a = { { {row[0], row[2]}, {row[1], row[3]}} };
  const bool upper = lane_id() >= WAVE / 2;
  UNROLL
  for (u32 j = 0; j < ACT_PIECES; j++) {
    const u32x4 b = { {upper ? act[j][1] : act[j][0], upper ? act[j][3] : act[j][2]}};
    mma(a, b, sums.of[j].v, 0, T{});
  }
  return sums;
}
DEVICE Sums add_sums(Sums a, const Sums& b) {
  UNROLL
  for (u32 j = 0; j < ACT_PIECES; j++)
    UNROLL
    for (u32 i = 0; i < 4; i++) a.of[j][i] += b.of[j][i];
  return a;
}
DEVICE float from_lane(float x, u32 distance) { return __shfl_xor_sync(0xffffffffu, x, distance); }
// Sum i of a lane that keeps sums: its row, activation row sum_row(i). All lanes of the wave are here.
DEVICE float whole_sum(const Sums& sums, u32 i) {
  const f32x4 s = sums.of[i];
  const u32 column = lane_id() % 4, segment = lane_id() / 4 % SEGMENTS;
  float value = segment % 2 ? (column < 2 ? s[1] : s[3]) : (column < 2 ? s[0] : s[2]);
  value = column % 2 == segment / 2 ? value : 0;
  value += from_lane(value, 1);
  value += from_lane(value, 2);
  value += from_lane(value, 4);
  value += from_lane(value, 8);
  return value;
}
DEVICE u32 sum_row(u32 i) { return i * ACT_ROWS; }
DEVICE bool keeps_sums() { return lane_id() % (4 * SEGMENTS) < ACT_ROWS; }
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = fp16;
constexpr u32 N = 3, YTILE = 2, WvPrGrp = 4, A_CHUNK = 8, UNRL = 2;
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 PIECES = A_CHUNK / PIECE;
constexpr u32 K_WAVES = 2;  // waves of a group that share the K of a tile
constexpr u32 K_GROUPS = 8, K_PARTS = K_GROUPS * K_WAVES;  // groups that do, waves of all of them
constexpr u32 ROWS = 2;   // rows side by side in a wave
constexpr u32 K_LANES = 16;  // lanes of each row, which split K
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one piece each
constexpr u32 STEP = SLAB * UNRL;            // K elements of one trip of the main loop
constexpr u32 PARTIALS = 1;              // independent sums per output

constexpr u32 GROUP_ROWS = WvPrGrp / K_WAVES * YTILE;  // rows of a work-group's tile
constexpr u32 ROUND = WvPrGrp * N * YTILE;
SHARED float exchanged[2 * ROUND];  // [round][wave][n][row]; two rounds, so that one barrier per tile is enough
DEVICE u32 slot_of_sum(u32 round, u32 wave, u32 n, u32 row) { return round * ROUND + (wave * N + n) * YTILE + row; }
SHARED float whole[GROUP_ROWS * N];  // [n][row]: sums of this group

// Add what the waves brought, then what the groups did, for the tile that begins at row m0; add bias, round once and store the rows that exist.
DEVICE void finish_shared(u32 round, const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  NO_UNROLL
  for (u32 i = thread_id(); i < GROUP_ROWS * N; i += WvPrGrp * WAVE) {
    const u32 n = i / GROUP_ROWS, row = i % GROUP_ROWS;
    float value = 0;
    UNROLL
    for (u32 wave = 0; wave < K_WAVES; wave++) value += exchanged[slot_of_sum(round, row / YTILE * K_WAVES + wave, n, row % YTILE)];
    whole[i] = value;
  }
  cluster_barrier();
  NO_UNROLL
  for (u32 i = thread_id(); group_of_cluster() == 0 && i < GROUP_ROWS * N; i += WvPrGrp * WAVE) {
    const u32 n = i / GROUP_ROWS, m = m0 + i % GROUP_ROWS;
    if (m >= M) continue;
    float value = 0;
    UNROLL
    for (u32 group = 0; group < K_GROUPS; group++) value += load_of_group(whole + i, group);
    if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
    out[static_cast<u64>(n) * M + m] = round_to<T>(value);
  }
  cluster_end();  // no group ends, or writes new sums, while the first one reads
}

// Where this lane finds its pieces: for each of its rows the address of its part of a slab.
struct Operands {
  const T* weight[Y_TILES];
  const T* act[ACT_PIECES];

  // Activation rows `stride` elements apart; beyond N the last row again, which is not stored.
  MEMBER void set_act(const T* rows, u32 stride) {
    UNROLL
    for (u32 j = 0; j < ACT_PIECES; j++) {
      const u32 n = act_row(j) < N ? act_row(j) : N - 1;
      act[j] = rows + (static_cast<u64>(n) * stride + lane_part() * PIECE);
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
    for (u32 j = 0; j < ACT_PIECES; j++) act[j] += elements;
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
      if (inside(u)) x[u][j] = load16(at.act[j], 0, u * SLAB * sizeof(T));
    }
  issue_first();
  UNROLL
  for (u32 u = 0; u < UNRL; u++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) sum[y][u % PARTIALS] = multiply_rows<T>(w[u][y], x[u], sum[y][u % PARTIALS]);
}

// sum += weight[:, first : end] * act[:, first : end].
// Of the trips a wave takes every K_PARTS-th.
DEVICE void accumulate(Sums (&sum)[Y_TILES][PARTIALS], Operands at, u32 k_wave, u32 first, u32 end) {
  u32 k = first + k_wave * STEP;
  at.advance(k);
  NO_UNROLL
  for (; k + STEP <= end; k += K_PARTS * STEP, at.advance(K_PARTS * STEP)) multiply_trip<false>(sum, at, STEP);
  if (k < end) multiply_trip<true>(sum, at, end - k);
}

// Bring a wave's sums to LDS.
DEVICE void exchange(const Sums (&sum)[Y_TILES][PARTIALS], u32 wave, u32 round) {
  UNROLL
  for (u32 y = 0; y < Y_TILES; y++) {
    Sums total = sum[y][0];
    UNROLL
    for (u32 p = 1; p < PARTIALS; p++) total = add_sums(total, sum[y][p]);
    UNROLL
    for (u32 i = 0; i < LANE_SUMS; i++) {
      const float value = whole_sum(total, i);
      const u32 n = sum_row(i), row = y * ROWS + lane_row();
      if (keeps_sums() && n < N) exchanged[slot_of_sum(round, wave, n, row)] = value;
    }
  }
}

// weight [M, K] and act [N, K] with row strides in elements; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL CLUSTER void wvsplitk_fp16_N3_THRDS32_YTILE2_WvPrGrp4_K_WAVES2_K_GROUPS8_A_CHUNK8_UNRL2_STAGINGglobal_MATRIX16(
    const T* weight, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 wave = wave_id(), k_wave = wave % K_WAVES * K_GROUPS + group_of_cluster(), row_wave = wave / K_WAVES;
  Operands at;
  at.set_act(act, act_stride);

  u32 round = 0;
  for (u32 tile = group_id() / K_GROUPS; tile * GROUP_ROWS < M; tile += groups / K_GROUPS, round ^= 1) {
    const u32 m0 = tile * GROUP_ROWS + row_wave * YTILE;
    at.set_weight(weight, weight_stride, m0, M);
    Sums sum[Y_TILES][PARTIALS] = {};
    if (m0 < M) accumulate(sum, at, k_wave, 0, K);
    exchange(sum, wave, round);
    barrier();
    finish_shared(round, bias, bias_stride, out, tile * GROUP_ROWS, M);
  }
}
