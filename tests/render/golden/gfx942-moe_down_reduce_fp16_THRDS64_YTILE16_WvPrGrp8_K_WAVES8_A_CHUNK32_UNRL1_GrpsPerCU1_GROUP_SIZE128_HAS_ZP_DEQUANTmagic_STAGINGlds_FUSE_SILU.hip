// moe_down_reduce_fp16_THRDS64_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL1_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTmagic_STAGINGlds_FUSE_SILU   made by kgen from moe_down_reduce.hip.jinja; edit the template, not this file
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

// ---- prelude: matrix tiles, staging, device scope; AMD gfx942 ----
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
// K of 16 per instruction, 4 elements from each lane: first the lower halves of all pieces, then the upper ones, alike for both operands.
using s16x4 = short __attribute__((ext_vector_type(4)));
using u32x2 = u32 __attribute__((ext_vector_type(2)));
DEVICE Tile mfma_16x16x16(u32x2 a, u32x2 b, Tile sum, fp16) {
  return __builtin_amdgcn_mfma_f32_16x16x16f16(__builtin_bit_cast(x4<fp16>, a), __builtin_bit_cast(x4<fp16>, b), sum, 0, 0, 0);
}
DEVICE Tile mfma_16x16x16(u32x2 a, u32x2 b, Tile sum, bf16) {
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(s16x4, a), __builtin_bit_cast(s16x4, b), sum, 0, 0, 0);
}
template <class T> DEVICE Tile multiply_tiles(Fragment a, Fragment b, Tile sum) {
  const u32x2 a_lo = a.xy, a_hi = a.zw, b_lo = b.xy, b_hi = b.zw;
  return mfma_16x16x16(a_hi, b_hi, mfma_16x16x16(a_lo, b_lo, sum, T{}), T{});
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
  __builtin_amdgcn_s_waitcnt(0x0f70);  // vmcnt(0); the others as they are
}
// ---- end of prelude ----

// ---- prelude: 4-bit weights; AMD gfx942 ----
// `WORDS` 32-bit words at base + lane_offset + imm (bytes), read once.
template <u32 WORDS, class T> DEVICE void load_words_once(u32 (&to)[WORDS], const T* base, u32 lane_offset, u32 imm) {
  using Words = u32 __attribute__((ext_vector_type(WORDS)));
  const char* at = reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm);
  const Words words = __builtin_nontemporal_load(reinterpret_cast<const Words*>(at));
  UNROLL
  for (u32 i = 0; i < WORDS; i++) to[i] = words[i];
}
// One element at base + lane_offset + imm (bytes).
template <class E> DEVICE E load_one(const E* base, u32 lane_offset, u32 imm) {
  return *reinterpret_cast<const E*>(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm));
}

// a * b + c, rounded once: said in so many words, so that the compiler does the same for every row.
DEVICE float mul_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE u32 and_or(u32 x, u32 mask, u32 bits) { return (x & mask) | bits; }
// All lanes of the wave are here; its LDS writes before are seen after.
DEVICE void wave_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}

// A register holds two 16-bit elements, the lower half the first.
DEVICE float as_float(u32 x) { return __builtin_bit_cast(float, x); }
DEVICE float low_f32(u32 x, bf16) { return as_float(x << 16); }
DEVICE float high_f32(u32 x, bf16) { return as_float(x & 0xffff0000u); }
DEVICE float low_f32(u32 x, fp16) { return static_cast<float>(__builtin_bit_cast(x2<fp16>, x).x); }
DEVICE float high_f32(u32 x, fp16) { return static_cast<float>(__builtin_bit_cast(x2<fp16>, x).y); }
template <class T> DEVICE u32 sub_pairs(u32 a, u32 b) {
  return __builtin_bit_cast(u32, __builtin_bit_cast(x2<T>, a) - __builtin_bit_cast(x2<T>, b));
}
template <class T> DEVICE u32 mul_add_pairs(u32 a, u32 b, u32 c) {
  return __builtin_bit_cast(u32, __builtin_bit_cast(x2<T>, a) * __builtin_bit_cast(x2<T>, b) + __builtin_bit_cast(x2<T>, c));
}
// Two numbers as the language converts them.
template <class T> DEVICE u32 pack(float low, float high) {
  const x2<T> pair = {static_cast<T>(low), static_cast<T>(high)};
  return __builtin_bit_cast(u32, pair);
}
// Rounded to nearest even, for numbers that are not NaN.
DEVICE u32 pack_finite(float low, float high, bf16) {
  const u32 a = __builtin_bit_cast(u32, low), b = __builtin_bit_cast(u32, high);
  return (a + 0x7fffu + (a >> 16 & 1)) >> 16 | ((b + 0x7fffu + (b >> 16 & 1)) & 0xffff0000u);
}
DEVICE u32 pack_finite(float low, float high, fp16) { return pack<fp16>(low, high); }
// Rounded toward zero.
DEVICE u32 pack_truncated(float low, float high, bf16) {
  return __builtin_amdgcn_perm(__builtin_bit_cast(u32, high), __builtin_bit_cast(u32, low), 0x07060302u);
}
DEVICE u32 pack_truncated(float low, float high, fp16) {
  return __builtin_bit_cast(u32, __builtin_amdgcn_cvt_pkrtz(low, high));
}

// Sixteen weight rows side by side: lane l holds row l % 16 and the part l / 16 of every slab of K. It multiplies as the second operand, so
// that the sums of a lane belong to its own row: element i is column l / 16 * 4 + i.
constexpr u32 ROWS_OF_LANE = 1, COLUMNS = 16;
using Sums = f32x4;
DEVICE u32 lane_row(u32) { return lane_id() % 16; }
DEVICE u32 lane_part() { return lane_id() / 16; }
DEVICE u32 act_column() { return lane_id() % 16; }
DEVICE u32 sum_row(u32) { return 0; }
DEVICE u32 sum_column(u32 i) { return lane_id() / 16 * 4 + i; }
// sums + the products of 8 elements of each row with 8 of each column.
template <class T> DEVICE Sums multiply_rows(const u32 (&rows)[ROWS_OF_LANE][4], u32x4 act, Sums sums) {
  const u32x4 row = {rows[0][0], rows[0][1], rows[0][2], rows[0][3]};
  return multiply_tiles<T>(act, row, sums);
}
// Sum of the 8 elements of a piece.
template <class T> DEVICE float sum_of_piece(u32x4 piece, float sum) {
  UNROLL
  for (u32 i = 0; i < 4; i++) sum += low_f32(piece[i], T{}) + high_f32(piece[i], T{});
  return sum;
}
// ---- end of prelude ----

// ---- prelude: choices and activation functions; AMD gfx942 ----
// A kernel starts when the one before it in the stream has ended.
DEVICE void wait_for_predecessor() {}
DEVICE void let_successor_start() {}
DEVICE u32 group_row() { return __builtin_amdgcn_workgroup_id_y(); }  // second dimension of the grid
// A value that all lanes of the wave share, in a scalar register.
DEVICE u32 same_in_wave(u32 x) { return __builtin_amdgcn_readfirstlane(x); }
DEVICE i32 same_in_wave(i32 x) { return static_cast<i32>(__builtin_amdgcn_readfirstlane(static_cast<u32>(x))); }
DEVICE float same_in_wave(float x) { return __builtin_bit_cast(float, __builtin_amdgcn_readfirstlane(__builtin_bit_cast(u32, x))); }
// Lane `lane`'s value, in all lanes; `lane` is the same in all of them.
DEVICE i32 of_lane(i32 x, u32 lane) { return __builtin_amdgcn_readlane(x, lane); }
DEVICE float of_lane(float x, u32 lane) { return __builtin_bit_cast(float, __builtin_amdgcn_readlane(__builtin_bit_cast(i32, x), lane)); }
// All waves meet; what they wrote to LDS is seen after it. Loads from memory stay in flight across it.
DEVICE void barrier_lds() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup", "local");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup", "local");
}
// 2^x and 1 / x, off by at most one unit in the last place of fp32.
DEVICE float fast_exp2(float x) { return __builtin_amdgcn_exp2f(x); }
DEVICE float fast_rcp(float x) { return __builtin_amdgcn_rcpf(x); }
template <class T> DEVICE u32 bits_of(T x) { return __builtin_bit_cast(u16, x); }
// Two numbers rounded to nearest even, as a register.
template <class T> DEVICE u32 round_pair(float low, float high) {
  const x2<T> pair = {round_to<T>(low), round_to<T>(high)};
  return __builtin_bit_cast(u32, pair);
}
// ---- end of prelude ----

// M output features, K reduction, both of an expert.
using T = fp16;
constexpr u32 N = 1, YTILE = 16, WvPrGrp = 8, A_CHUNK = 32, UNRL = 1;
constexpr u32 GROUP_SIZE = 128;  // K elements that share a scale and a zero point
constexpr u32 WORDS = A_CHUNK / 8;    // of a chunk: what one lane loads of a row at once
constexpr u32 PIECE = 8;              // activations of one word: 16 bytes
constexpr u32 OFFSET = 64;  // what the exponent trick adds to a code
constexpr u32 ROWS = 16;   // rows side by side in a wave
constexpr u32 K_LANES = 4;  // lanes of each row, which split K
constexpr u32 GROUPS = 1;   // groups of a slab: column n * GROUPS + g of a tile sums group g of activation row n
constexpr u32 N_TILES = (N * GROUPS + COLUMNS - 1) / COLUMNS;
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one chunk each
constexpr u32 K_WAVES = 8;       // waves that share the K of a tile

// magic: even pairs as 1024 + q, odd ones in place as 1024 + 16 q; offset and zero point leave by a subtraction or, with the 16, by one
// multiply-add. Two of the three shifts fall away.
DEVICE void decode(u32 word, u32 zero, u32 (&pairs)[4]) {
  UNROLL
  for (u32 p = 0; p < 4; p++) {
    const u32 shifted = p < 2 ? word : word >> 8;
    pairs[p] = p % 2 == 0 ? sub_pairs<T>(and_or(shifted, 0x000f000fu, 0x64006400u), 0x64006400u + zero * 0x00010001u)
                          : mul_add_pairs<T>(and_or(shifted, 0x00f000f0u, 0x64006400u), 0x2c002c00u, 0xd400d400u + zero * 0x00100010u);
  }
}

// LDS holds activations in slabs: SLAB_PIECES pieces of 16 bytes, word by word of a chunk, so that the lanes of a row read side by side.
constexpr u32 SLAB_PIECES = WORDS * N * K_LANES;
DEVICE u32 slot_in_slab(u32 word, u32 n, u32 part) { return (word * N + n) * K_LANES + part; }

// Where a lane finds the rows of its tile: for each row a base that is the same for the whole wave, and this lane's byte offset on top.
struct Rows {
  const u32* codes[Y_TILES];
  const T* scales[Y_TILES];
  const u32* zeros[Y_TILES];
  u32 zero_shift[Y_TILES][ROWS_OF_LANE];
  u32 code_lane[Y_TILES][ROWS_OF_LANE], scale_lane[Y_TILES][ROWS_OF_LANE], zero_lane[Y_TILES][ROWS_OF_LANE];

  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 code_stride, const T* scale_rows, u32 scale_stride, const u32* zero_rows, u32 zero_stride, u32 m0, u32 M) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
      codes[y] = code_rows + static_cast<u64>(m) * code_stride;
      scales[y] = scale_rows + static_cast<u64>(m) * scale_stride;
      zeros[y] = zero_rows + static_cast<u64>(m / 8) * zero_stride;
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        const u32 row = lane_row(r) < M - 1 - m ? lane_row(r) : M - 1 - m;
        code_lane[y][r] = row * code_stride * sizeof(u32);
        scale_lane[y][r] = row * scale_stride * sizeof(T);
        zero_lane[y][r] = ((m + row) / 8 - m / 8) * zero_stride * sizeof(u32);
        zero_shift[y][r] = (m + row) % 8 * 4;
      }
    }
  }
};

constexpr u32 SCALES = ROWS_OF_LANE;
DEVICE u32 scale_of_sum(u32 i) { return sum_row(i); }
DEVICE u32 scale_row(u32 j) { return j; }
DEVICE u32 scale_group(u32) { return 0; }

// What a lane has of U slabs of its rows.
template <u32 U> struct Trip {
  u32 codes[U][Y_TILES][ROWS_OF_LANE][WORDS];
  T scale[U][Y_TILES][SCALES];
  u32 zero[U][Y_TILES][ROWS_OF_LANE];

  // From slab `slab` on. GUARDED: the row may end inside; lanes beyond K bring its start, against activations that are zero.
  template <bool GUARDED> MEMBER void load(const Rows& rows, u32 slab, u32 K) {
    u32 k = slab * SLAB + lane_part() * A_CHUNK;
    if (GUARDED && k >= K) k = 0;
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          load_words_once(codes[u][y][r], rows.codes[y], rows.code_lane[y][r] + k / 2, u * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U; u++) {
      const u32 first = (slab + u) * GROUPS;
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) {
        UNROLL
        for (u32 j = 0; j < SCALES; j++) {
          u32 group = first + scale_group(j);
          if (GUARDED && group >= K / GROUP_SIZE) group = K / GROUP_SIZE - 1;
          scale[u][y][j] = load_one(rows.scales[y], rows.scale_lane[y][scale_row(j)] + group * sizeof(T), 0);
        }
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          zero[u][y][r] = load_one(rows.zeros[y], rows.zero_lane[y][r] + (k + u * SLAB) / GROUP_SIZE * sizeof(u32), 0) >> rows.zero_shift[y][r] & 15;
      }
    }
  }
};

using Total = Sums;
constexpr u32 TOTALS = N_TILES;

// Activations of a wave's slabs, from LDS.
struct Staged {
  const u32x4* pieces;
  // Of U slabs from `slab` on: read when they are needed.
  template <u32 U> MEMBER Staged fetch(u32 slab) const {
    Staged x = *this;
    x.pieces += slab * SLAB_PIECES;
    return x;
  }
  MEMBER void land() const {}
  u32 lane[N_TILES];  // byte offset of the piece that this lane brings for each tile

  MEMBER void set() {
    UNROLL
    for (u32 j = 0; j < N_TILES; j++) {
      const u32 column = j * COLUMNS + act_column();
      const u32 n = column / GROUPS < N ? column / GROUPS : N - 1;  // beyond N: the last row again, not stored
      lane[j] = (n * K_LANES + lane_part()) * sizeof(u32x4);
    }
  }
  // Word `word` of the chunk in slab u, for tile j.
  MEMBER u32x4 piece(u32 j, u32 u, u32 word) const {
    u32x4 x = load16_lds(pieces, lane[j], (u * SLAB_PIECES + word * N * K_LANES) * sizeof(u32x4));
    return x;
  }
};

// total += weights * activations over the U slabs of a trip.
template <u32 U, class Act> DEVICE void multiply_trip(Total (&total)[TOTALS][Y_TILES], const Trip<U>& trip, const Act& act) {
  UNROLL
  for (u32 u = 0; u < U; u++) {
    Total part[TOTALS][Y_TILES] = {};
    UNROLL
    for (u32 word = 0; word < WORDS; word++) {
      u32x4 x[TOTALS];
      UNROLL
      for (u32 j = 0; j < TOTALS; j++) x[j] = act.piece(j, u, word);
      u32 pairs[Y_TILES][ROWS_OF_LANE][4];
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          decode(trip.codes[u][y][r][word], trip.zero[u][y][r], pairs[y][r]);
      UNROLL
      for (u32 j = 0; j < N_TILES; j++)
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) part[j][y] = multiply_rows<T>(pairs[y], x[j], part[j][y]);
    }
    UNROLL
    for (u32 j = 0; j < TOTALS; j++) {
      UNROLL
      for (u32 i = 0; i < 4; i++) {
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) {
          const float scale = to_f32(trip.scale[u][y][scale_of_sum(i)]);
          total[j][y][i] = mul_add(scale, part[j][y][i], total[j][y][i]);
        }
      }
    }
  }
}

constexpr u32 GROUP_ROWS = WvPrGrp / K_WAVES * YTILE;  // rows of a work-group's tile
constexpr u32 ADDENDS = N * GROUPS;  // sums of a row in each wave
SHARED float exchanged[2][WvPrGrp * YTILE * ADDENDS];  // [row of a wave][addend]; two, so that one barrier per tile is enough

// Bring a wave's sums to LDS.
DEVICE void exchange(const Total (&total)[TOTALS][Y_TILES], u32 round) {
  UNROLL
  for (u32 j = 0; j < N_TILES; j++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++)
      UNROLL
      for (u32 i = 0; i < 4; i++) {
        const u32 column = j * COLUMNS + sum_column(i), row = wave_id() * YTILE + y * ROWS + lane_row(sum_row(i));
        if (column < ADDENDS) exchanged[round][row * ADDENDS + column] = total[j][y][i];
      }
}

constexpr u32 OUT_ROWS = YTILE;  // outputs of a wave
constexpr u32 GROUP_OUT = GROUP_ROWS;
constexpr u32 THREADS = WvPrGrp * WAVE;
constexpr u32 STEP = SLAB * UNRL;  // K elements of a trip

// Trip `at` of rows that end at K, perhaps inside of it: lanes beyond K bring the row's start, against activations that are zero.
DEVICE void load_trip(Trip<UNRL>& trip, const Rows& rows, u32 at, u32 K) {
  UNROLL
  for (u32 u = 0; u < UNRL; u++) {
    Trip<1> one;
    one.template load<true>(rows, at * UNRL + u, K);
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++)
        UNROLL
        for (u32 word = 0; word < WORDS; word++) trip.codes[u][y][r][word] = one.codes[0][y][r][word];
      UNROLL
      for (u32 j = 0; j < SCALES; j++) trip.scale[u][y][j] = one.scale[0][y][j];
      UNROLL
      for (u32 j = 0; j < ROWS_OF_LANE; j++) trip.zero[u][y][j] = one.zero[0][y][j];
    }
  }
}

DEVICE float silu(float x) { return x * fast_rcp(1.0f + fast_exp2(-1.44269504f * x)); }

// Bring `rows` rows of activations to LDS, one after the other, N at a time side by side; each fills whole trips, zeros beyond K.
// piece_of(row, n, k): eight elements.
constexpr u32 AT_ONCE = 2;  // loads in flight of a work-item
template <class PieceOf> DEVICE void stage_rows(u32x4* staged, u32 rows, u32 trips, u32 K, PieceOf piece_of) {
  const u32 pieces = trips * (STEP / PIECE), all = rows * pieces;
  NO_UNROLL
  for (u32 n = 0; n < N; n++)
    NO_UNROLL
    for (u32 first = thread_id(); first < all; first += AT_ONCE * THREADS) {
      u32x4 x[AT_ONCE] = {};
      UNROLL
      for (u32 b = 0; b < AT_ONCE; b++) {
        const u32 i = first + b * THREADS, row = i / pieces, k = (i - row * pieces) * PIECE;
        if (i < all && k < K) x[b] = piece_of(row, n, k);
      }
      UNROLL
      for (u32 b = 0; b < AT_ONCE; b++) {
        const u32 i = first + b * THREADS, slab = i / (SLAB / PIECE), inside = i % (SLAB / PIECE);
        if (i < all) store16_lds(staged, (slab * SLAB_PIECES + slot_in_slab(inside % WORDS, n, inside / WORDS)) * sizeof(u32x4), x[b]);
      }
    }
}

// Sum of row `row` of a group's row wave, over the waves that share its K.
DEVICE float sum_of(u32 round, u32 row_wave, u32 row, u32 n) {
  const float* from = exchanged[round] + (row_wave * K_WAVES * YTILE + row) * ADDENDS;
  float value = 0;
  UNROLL
  for (u32 wave = 0; wave < K_WAVES; wave++, from += YTILE * ADDENDS)
    value += from[n];
  return value;
}

// Store a tile's outputs: store(n, m, value), or with pairs the activated product.
template <class Store> DEVICE void finish(u32 round, u32 m0, u32 M, Store store) {
  NO_UNROLL
  for (u32 i = thread_id(); i < GROUP_OUT * N; i += THREADS) {
    const u32 n = i / GROUP_OUT, row = i % GROUP_OUT, m = m0 + row;
    if (m >= M) continue;
    const float value = sum_of(round, row / OUT_ROWS, row % OUT_ROWS, n);
    store(n, m, value);
  }
}

SHARED_AT_LAUNCH u32x4 staged[];  // whole trips of each slot

// silu(gate) * up of eight elements, rounded to T.
DEVICE u32x4 activated(u32x4 gate, u32x4 up) {
  u32x4 x;
  UNROLL
  for (u32 i = 0; i < 4; i++)
    x[i] = round_pair<T>(silu(low_f32(gate[i], T{})) * low_f32(up[i], T{}), silu(high_f32(gate[i], T{})) * high_f32(up[i], T{}));
  return x;
}

// codes [E, M, K / 8] words, scales [E, M, K / GROUP_SIZE], zeros [E, ceil(M / 8), K / GROUP_SIZE] words or null; strides of rows and of experts
// in elements (words). act [tokens * top_k, 2 K: gates, then what they gate]; topk_ids, topk_weights [tokens, top_k]; out [tokens, M] contiguous.
GLOBAL void moe_down_reduce_fp16_THRDS64_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL1_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTmagic_STAGINGlds_FUSE_SILU(
    const u32* codes, const T* scales, const u32* zeros, const T* act, const i32* topk_ids, const float* topk_weights, T* out,
    u32 M, u32 K, u32 code_stride, u32 scale_stride, u32 zero_stride, u32 act_stride,
    u32 code_expert, u32 scale_expert, u32 zero_expert, u32 top_k, u32 groups) {
  wait_for_predecessor();
  let_successor_start();
  const u32 trips = (K + STEP - 1) / STEP, units = trips * top_k, token = group_row();  // a unit: one trip of one slot
  const T* token_act = act + static_cast<u64>(token) * top_k * act_stride;
  const u32 wave = wave_id() % K_WAVES;
  const auto store = [=](u32, u32 m, float value) { out[static_cast<u64>(token) * M + m] = round_to<T>(value); };
  // Lane s of each wave holds the expert and the weight of slot s.
  const u32 mine = token * top_k + (lane_id() < top_k ? lane_id() : 0);
  const i32 lane_expert = topk_ids[mine];
  const float lane_weight = topk_weights[mine];
  u32 tile = group_id(), unit = wave;
  i32 expert = -1;
  Trip<UNRL> trip;
  // A wave may have no unit of a tile; it meets the others all the same.
  const auto load_unit = [&] {
    const u32 slot = unit / trips, m0 = tile * GROUP_OUT + wave_id() / K_WAVES * OUT_ROWS;
    expert = unit < units && m0 < M ? of_lane(lane_expert, slot) : -1;
    if (expert < 0) return;
    Rows rows;
    rows.set(codes + static_cast<u64>(expert) * code_expert, code_stride, scales + static_cast<u64>(expert) * scale_expert, scale_stride,
             zeros + static_cast<u64>(expert) * zero_expert, zero_stride, m0, M);
    load_trip(trip, rows, unit - slot * trips, K);
  };
  Staged at = { staged};
  at.set();
  // The first unit's weights are under way before anything is waited for.
  load_unit();
  issue_first();
  stage_rows(staged, top_k, trips, K, [=](u32 slot, u32, u32 k) {
    const T* row = token_act + static_cast<u64>(slot) * act_stride;
    return activated(load16(row, k * sizeof(T)), load16(row + K, k * sizeof(T)));
  });
  barrier_lds();

  u32 round = 0;
  Total total[TOTALS][Y_TILES] = {};
  // One loop over the units of all tiles, so that the next tile's weights are under way while the last one's outputs are made.
  NO_UNROLL
  for (;;) {
    if (expert >= 0) {
      Total part[TOTALS][Y_TILES] = {};
      multiply_trip(part, trip, at.template fetch<UNRL>(unit * UNRL));
      const float weight = of_lane(lane_weight, unit / trips);
      UNROLL
      for (u32 j = 0; j < TOTALS; j++)
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++)
          UNROLL
          for (u32 i = 0; i < 4; i++) total[j][y][i] += weight * part[j][y][i];
    }
    unit += K_WAVES;
    const bool complete = unit >= units;
    const u32 m0 = tile * GROUP_OUT;
    if (complete) {
      unit = wave;
      tile += groups;
    }
    load_unit();
    if (complete) {
      exchange(total, round);
      barrier_lds();
      finish(round, m0, M, store);
      round ^= 1;
      if (tile * GROUP_OUT >= M) return;
      UNROLL
      for (u32 j = 0; j < TOTALS; j++)
        UNROLL
        for (u32 y = 0; y < Y_TILES; y++) total[j][y] = {};
    }
  }
}
