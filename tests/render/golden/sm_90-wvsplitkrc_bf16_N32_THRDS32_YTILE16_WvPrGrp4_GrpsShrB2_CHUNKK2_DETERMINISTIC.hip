// wvsplitkrc_bf16_N32_THRDS32_YTILE16_WvPrGrp4_GrpsShrB2_CHUNKK2_DETERMINISTIC   made by kgen from wvsplitkrc.hip.jinja; edit the template, not this file
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

// M output features (weight rows), N activation rows at most, K reduction.
using T = bf16;
constexpr u32 N = 32, YTILE = 16, WvPrGrp = 4, GrpsShrB = 2;
constexpr u32 SHARD = 256;  // K elements of a work-group
constexpr u32 STEP = 128;  // K elements in LDS at a time
constexpr u32 PIECE = 8;  // elements of one 16-byte load
constexpr u32 BLOCK_K = 32, SLOTS = 64;  // a block in LDS: 16 rows of BLOCK_K elements, SLOTS pieces
constexpr u32 W_TILES = WvPrGrp / GrpsShrB, A_TILES = N / 16;  // tiles of 16 rows that a group stages: weights, activations
constexpr u32 N_TILES = A_TILES / GrpsShrB;                    // tiles of activations that a wave multiplies
constexpr u32 BLOCKS = STEP / BLOCK_K;                         // of a tile, along K
constexpr u32 WAVES_PER_BLOCK = SLOTS / WAVE;                  // waves that fill a block together
constexpr u32 BLOCKS_AT_ONCE = WvPrGrp / WAVES_PER_BLOCK;      // blocks that the group's waves fill with one piece per lane
constexpr u32 FETCHES = BLOCKS / BLOCKS_AT_ONCE;               // pieces of a lane, for each tile
constexpr u32 AHEAD = WAVE / 16;                                // blocks whose fragments may be loaded ahead of their multiplications
constexpr u32 ROWS = W_TILES * YTILE;                          // output features of a group

SHARED u32x4 staged[(W_TILES + A_TILES) * BLOCKS * SLOTS];
SHARED u32 arrivals;
alignas(16) ON_DEVICE const u32 zeros[4] = {};  // what lanes outside of K fetch

// This lane's pieces of one step.
struct Step { Fetched piece[W_TILES + A_TILES][FETCHES]; };

// weight [M, K], act [rows, K] with row strides in elements; bias null, [M] (bias_stride 0) or [rows, M] (bias_stride its row pitch);
// out [rows, M] contiguous. groups = tiles along M x shards along K, tiles side by side.
// partial  scratch memory of fp32 sums, shard by shard; counter  one per tile, zero before and after
GLOBAL void wvsplitkrc_bf16_N32_THRDS32_YTILE16_WvPrGrp4_GrpsShrB2_CHUNKK2_DETERMINISTIC(
    const T* weight, const T* act, const T* bias, T* out, float* partial, u32* counter, u32 M, u32 K,
    u32 weight_stride, u32 act_stride, u32 bias_stride, u32 rows, u32 shards, u32 groups) {
  const u32 tiles = (M + ROWS - 1) / ROWS;
  const u32 shard = uniform(group_id() / tiles), tile = group_id() - shard * tiles;
  const u32 m0 = tile * ROWS;
  const u32 wave = wave_id(), lane = lane_id();
  const u32 k_begin = shard * SHARD;

  // Staging: this lane's place in a block is the same for all its pieces.
  const u32 slot = wave % WAVES_PER_BLOCK * WAVE + lane;
  const u32 first_block = wave / WAVES_PER_BLOCK;
  const u32 lane_row = slot_row(slot), lane_k = first_block * BLOCK_K + slot_piece(slot) * PIECE;
  const auto place = [&](u32 t, u32 j) {
    return staged + ((t * BLOCKS + j * BLOCKS_AT_ONCE + first_block) * SLOTS + wave % WAVES_PER_BLOCK * WAVE);
  };
  const auto fetch = [&](Step& step, u32 k0, bool whole) {
    UNROLL
    for (u32 t = 0; t < W_TILES + A_TILES; t++) {
      const bool is_weight = t < W_TILES;
      const u32 row = (is_weight ? m0 + t * 16 : (t - W_TILES) * 16) + lane_row, last = (is_weight ? M : rows) - 1;
      const u64 from_row = static_cast<u64>(row < last ? row : last) * (is_weight ? weight_stride : act_stride);  // beyond: not stored
      const T* from = (is_weight ? weight : act) + from_row + (k0 + lane_k);
      UNROLL
      for (u32 j = 0; j < FETCHES; j++) {
        const u32 k = j * BLOCKS_AT_ONCE * BLOCK_K;
        const void* at = from + k;
        if (!whole && k0 + lane_k + k >= K) at = zeros;
        step.piece[t][j] = is_weight ? fetch16<true>(at, place(t, j)) : fetch16<false>(at, place(t, j));
      }
    }
  };
  const auto start = [&](Step& step, u32 k0) {
    if (k0 + STEP <= K) {
      fetch(step, k0, true);
    } else {
      fetch(step, k0, false);
    }
  };

  const u32 wave_w = wave / GrpsShrB, wave_a = wave % GrpsShrB * N_TILES;  // this wave's tiles
  const u32x4* const w_blocks = staged + wave_w * BLOCKS * SLOTS;
  const u32x4* const a_blocks = staged + (W_TILES + wave_a) * BLOCKS * SLOTS;
  Tile sum[N_TILES] = {};
  Step step;
  start(step, k_begin);
  const u32 k_end = K < k_begin + SHARD ? K : k_begin + SHARD;
  NO_UNROLL
  for (u32 k0 = k_begin;;) {
    UNROLL
    for (u32 t = 0; t < W_TILES + A_TILES; t++)
      UNROLL
      for (u32 j = 0; j < FETCHES; j++) land16(step.piece[t][j], place(t, j));
    landed();
    barrier();
    k0 += STEP;
    const bool more = k0 < k_end;
    if (more) start(step, k0);
    UNROLL
    for (u32 b = 0; b < BLOCKS; b++) {
      const Fragment w = load_fragment(w_blocks + b * SLOTS);
      UNROLL
      for (u32 t = 0; t < N_TILES; t++) {
        const Fragment a = load_fragment(a_blocks + (t * BLOCKS + b) * SLOTS);
        sum[t] = multiply_tiles<T>(a, w, sum[t]);
      }
      if (b % AHEAD == AHEAD - 1) issue_first();  // else all fragments of the step are loaded at once and take as many registers
    }
    if (!more) break;
    barrier();
  }

  // Every shard has its own slice; a lane's elements lie together, so that stores and loads are whole lines.
  constexpr u32 PARTS = TILE_ELEMENTS / 4, SLICE = ROWS * N;
  const u32 mine = (wave * N_TILES * PARTS * WAVE + lane) * 4;
  float* const slices = partial + static_cast<u64>(tile) * shards * SLICE + mine;
  UNROLL
  for (u32 t = 0; t < N_TILES; t++)
    UNROLL
    for (u32 p = 0; p < PARTS; p++) {
      const f32x4 part = {sum[t][4 * p], sum[t][4 * p + 1], sum[t][4 * p + 2], sum[t][4 * p + 3]};
      store_shared(slices + static_cast<u64>(shard) * SLICE + (t * PARTS + p) * WAVE * 4, part);
    }

  // The last shard to arrive finishes the tile and leaves the counter as it found it.
  stores_done();
  barrier();
  if (thread_id() == 0) arrivals = arrive(counter + tile);
  barrier();
  if (uniform(arrivals) != shards - 1) return;
  if (thread_id() == 0) store_shared(counter + tile, 0u);

  // The bias is on its way while the sums are read; beyond rows and M what stands at the end, which is not stored.
  T added[N_TILES][TILE_ELEMENTS] = {};
  if (bias)
    UNROLL
    for (u32 t = 0; t < N_TILES; t++)
      UNROLL
      for (u32 i = 0; i < TILE_ELEMENTS; i++) {
        const u32 n = (wave_a + t) * 16 + tile_row(i), m = m0 + wave_w * 16 + tile_col(i);
        added[t][i] = bias[static_cast<u64>(n < rows - 1 ? n : rows - 1) * bias_stride + (m < M - 1 ? m : M - 1)];
      }

  // In the order of the shards, whoever came when; BATCH of them are loaded at a time.
  constexpr u32 BATCH = 4;
  UNROLL
  for (u32 t = 0; t < N_TILES; t++) sum[t] = Tile{};
  NO_UNROLL
  for (u32 s = 0; s < shards; s += BATCH) {
    f32x4 part[BATCH][N_TILES][PARTS];
    UNROLL
    for (u32 b = 0; b < BATCH; b++) {
      const u32 from = s + b < shards ? s + b : shards - 1;
      UNROLL
      for (u32 t = 0; t < N_TILES; t++)
        UNROLL
        for (u32 p = 0; p < PARTS; p++)
          part[b][t][p] = load_shared4(slices + static_cast<u64>(from) * SLICE + (t * PARTS + p) * WAVE * 4);
    }
    issue_first();
    UNROLL
    for (u32 b = 0; b < BATCH; b++)
      if (s + b < shards)
        UNROLL
        for (u32 t = 0; t < N_TILES; t++)
          UNROLL
          for (u32 i = 0; i < TILE_ELEMENTS; i++) sum[t][i] += part[b][t][i / 4][i % 4];
  }

  UNROLL
  for (u32 t = 0; t < N_TILES; t++)
    UNROLL
    for (u32 i = 0; i < TILE_ELEMENTS; i++) {
      const u32 n = (wave_a + t) * 16 + tile_row(i), m = m0 + wave_w * 16 + tile_col(i);
      if (n < rows && m < M) {
        out[static_cast<u64>(n) * M + m] = round_to<T>(sum[t][i] + to_f32(added[t][i]));
      }
    }
}
