// wvsplitkrc_fp16_N16_THRDS32_YTILE16_WvPrGrp4_GrpsShrB1_CHUNKK1   made by kgen from wvsplitkrc.hip.jinja; edit the template, not this file
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
// ---- prelude: matrix tiles, staging, device scope; AMD gfx1151 ----
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

// A lane holds a whole row of the block, the same as the lane 16 further. 16 registers for a fragment, 8 for a tile of sums.
struct Fragment { u32x8 half[2]; };
using Tile = f32x8;
constexpr u32 TILE_ELEMENTS = 8;  // of a lane
DEVICE Fragment load_fragment(const u32x4* block) {
  const u32 row = lane_id() % 16;
  Fragment f;
  UNROLL
  for (u32 h = 0; h < 2; h++) {
    f.half[h].lo = block[slot_of(row, 2 * h)];
    f.half[h].hi = block[slot_of(row, 2 * h + 1)];
  }
  return f;
}
// Where element i of a lane's share of a tile lies: row of the first operand, row of the second.
DEVICE u32 tile_row(u32 i) { return 2 * i + lane_id() / 16; }
DEVICE u32 tile_col(u32) { return lane_id() % 16; }
using s16x16 = short __attribute__((ext_vector_type(16)));
using fp16x16 = fp16 __attribute__((ext_vector_type(16)));
DEVICE Tile wmma(u32x8 a, u32x8 b, Tile sum, fp16) {
  return __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(__builtin_bit_cast(fp16x16, a), __builtin_bit_cast(fp16x16, b), sum);
}
DEVICE Tile wmma(u32x8 a, u32x8 b, Tile sum, bf16) {
  return __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(__builtin_bit_cast(s16x16, a), __builtin_bit_cast(s16x16, b), sum);
}
// sum[row, col] + the products of row `row` of a with row `col` of b, over 32 elements of K.
template <class T> DEVICE Tile multiply_tiles(const Fragment& a, const Fragment& b, Tile sum) {
  return wmma(a.half[1], b.half[1], wmma(a.half[0], b.half[0], sum, T{}), T{});
}

// Staging: every lane brings 16 bytes from its own address into `to` + its lane, `to` uniform. fetch starts, land ends it; `landed` before
// the barrier behind which others read. `once` marks data that no other work-group reads soon.
using Fetched = u32x4;
template <bool ONCE> DEVICE Fetched fetch16(const void* from, u32x4*) {
  const u32x4* at = static_cast<const u32x4*>(from);
  return ONCE ? __builtin_nontemporal_load(at) : *at;
}
DEVICE void land16(Fetched piece, u32x4* to) { to[lane_id()] = piece; }
DEVICE void landed() {}

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
  asm volatile("s_waitcnt_vscnt null, 0x0" ::: "memory");
}
// ---- end of prelude ----

// M output features (weight rows), N activation rows at most, K reduction.
using T = fp16;
constexpr u32 N = 16, YTILE = 16, WvPrGrp = 4, GrpsShrB = 1;
constexpr u32 SHARD = 512;  // K elements of a work-group
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
// partial  scratch memory of fp32 sums, zero before and after; counter  one per tile, zero before and after
GLOBAL void wvsplitkrc_fp16_N16_THRDS32_YTILE16_WvPrGrp4_GrpsShrB1_CHUNKK1(
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

  // One slice for all shards; element by element, so that the lanes of an addition lie together.
  float* const slice = partial + static_cast<u64>(tile) * (ROWS * N) + wave * N_TILES * TILE_ELEMENTS * WAVE + lane;
  UNROLL
  for (u32 t = 0; t < N_TILES; t++)
    UNROLL
    for (u32 i = 0; i < TILE_ELEMENTS; i++) add_shared(slice + (t * TILE_ELEMENTS + i) * WAVE, sum[t][i]);

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

  UNROLL
  for (u32 t = 0; t < N_TILES; t++)
    UNROLL
    for (u32 i = 0; i < TILE_ELEMENTS; i++) {
      float* const at = slice + (t * TILE_ELEMENTS + i) * WAVE;
      sum[t][i] = load_shared(at);
      store_shared(at, 0.0f);
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
