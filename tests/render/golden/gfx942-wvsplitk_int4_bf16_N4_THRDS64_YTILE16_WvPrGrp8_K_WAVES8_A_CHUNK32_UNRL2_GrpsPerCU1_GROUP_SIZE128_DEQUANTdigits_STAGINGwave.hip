// wvsplitk_int4_bf16_N4_THRDS64_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_DEQUANTdigits_STAGINGwave   made by kgen from wvsplitk_int4.hip.jinja; edit the template, not this file
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

// ---- prelude: the integer matrix instruction; AMD gfx942 ----
DEVICE u32 flip_and(u32 x, u32 flip, u32 mask) { return (x ^ flip) & mask; }
DEVICE u32 max_u32(u32 a, u32 b) { return a > b ? a : b; }
DEVICE i32 max_i32(i32 a, i32 b) { return a > b ? a : b; }
// The larger one of each half.
DEVICE u32 max_pairs(u32 a, u32 b) {
  using Halves = u16 __attribute__((ext_vector_type(2)));
  return __builtin_bit_cast(u32, __builtin_elementwise_max(__builtin_bit_cast(Halves, a), __builtin_bit_cast(Halves, b)));
}
template <u32 DISTANCE> DEVICE u32 turned_16(u32 x) {
  return static_cast<u32>(__builtin_amdgcn_update_dpp(0, static_cast<i32>(x), 0x120 + DISTANCE, 0xf, 0xf, true));  // row_ror
}
// In every lane the largest of 16 lanes side by side.
DEVICE u32 max_of_16_lanes(u32 x) {
  x = max_u32(x, turned_16<8>(x));
  x = max_u32(x, turned_16<4>(x));
  x = max_u32(x, turned_16<2>(x));
  return max_u32(x, turned_16<1>(x));
}
DEVICE u32 bits_of(float x) { return __builtin_bit_cast(u32, x); }
DEVICE void store8_lds(u32x4* base, u32 offset, u32 low, u32 high) {
  *reinterpret_cast<u64*>(reinterpret_cast<char*>(base) + offset) = static_cast<u64>(high) << 32 | low;
}
// Byte i of a, b, c and d, in that order, to to[i].
DEVICE void turn_bytes(u32 a, u32 b, u32 c, u32 d, u32 (&to)[4]) {
  const u32 ab01 = __builtin_amdgcn_perm(b, a, 0x05010400u), ab23 = __builtin_amdgcn_perm(b, a, 0x07030602u);
  const u32 cd01 = __builtin_amdgcn_perm(d, c, 0x05010400u), cd23 = __builtin_amdgcn_perm(d, c, 0x07030602u);
  to[0] = __builtin_amdgcn_perm(cd01, ab01, 0x05040100u);
  to[1] = __builtin_amdgcn_perm(cd01, ab01, 0x07060302u);
  to[2] = __builtin_amdgcn_perm(cd23, ab23, 0x05040100u);
  to[3] = __builtin_amdgcn_perm(cd23, ab23, 0x07060302u);
}

// Sums as of multiply_rows, in whole numbers: of the lane's row four columns side by side, which are the digits of one activation row.
constexpr u32 LANE_COLUMNS = 4;
using IntSums = i32 __attribute__((ext_vector_type(4)));
// sums + the products of the codes of a word of each row, bytes of either sign, with the digits of a column.
DEVICE IntSums multiply_digits(const u32 (&low)[ROWS_OF_LANE], const u32 (&high)[ROWS_OF_LANE], const u32 (&act)[2], IntSums sums) {
  const long row = static_cast<long>(static_cast<u64>(high[0]) << 32 | low[0]), column = static_cast<long>(static_cast<u64>(act[1]) << 32 | act[0]);
  return __builtin_amdgcn_mfma_i32_16x16x32_i8(column, row, sums, 0, 0, 0);
}
DEVICE IntSums multiply_ones(const u32 (&act)[2], IntSums sums) {
  const u32 ones[ROWS_OF_LANE] = {0x10101010u};
  return multiply_digits(ones, ones, act, sums);
}
// What the sums of the lane's row are together: below 2^22 each, so that those of two digits are a whole number still.
DEVICE float sum_of_digits(const IntSums& sums, u32, const float (&worth)[LANE_COLUMNS / 2], const i32 (&next)[LANE_COLUMNS / 2]) {
  float sum = static_cast<float>(sums[1] * next[0] + sums[0]) * worth[0];
  UNROLL
  for (u32 i = 1; i < LANE_COLUMNS / 2; i++) sum = mul_add(static_cast<float>(sums[2 * i + 1] * next[i] + sums[2 * i]), worth[i], sum);
  return sum;
}
// A lane has all digits of its activation row, of one of a slab's groups: the row's sum, in the first of the lanes that share it.
template <u32 GROUPS> DEVICE float sum_of_row(float x) {
  UNROLL
  for (u32 distance = 8 * GROUPS; distance >= 16; distance /= 2) x += from_lane(x, lane_id() ^ distance);
  return x;
}
template <u32 GROUPS> DEVICE u32 row_of_lane() { return lane_id() / (16 * GROUPS); }
template <u32 GROUPS> DEVICE bool first_of_row() { return lane_id() / 16 % GROUPS == 0; }
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 4, YTILE = 16, WvPrGrp = 8, A_CHUNK = 32, UNRL = 2;
constexpr u32 GROUP_SIZE = 128;  // K elements that share a scale
constexpr u32 WORDS = A_CHUNK / 8;    // of a chunk: what one lane loads of a row at once
constexpr u32 PIECE = 8;              // activations of one word: 16 bytes
constexpr u32 OFFSET = 128;  // what the exponent trick adds to a code
constexpr u32 ROWS = 16;   // rows side by side in a wave
constexpr u32 K_LANES = 4;  // lanes of each row, which split K
constexpr u32 GROUPS = 1;   // groups of a slab: column n * GROUPS + g of a tile sums group g of activation row n
constexpr u32 N_TILES = (N * GROUPS + COLUMNS - 1) / COLUMNS;
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one chunk each
constexpr u32 K_WAVES = 8;       // waves that share the K of a tile

// digits: the codes stay integers. Of each byte the upper code, less 8 and times 16: its highest bit inverted is the sign.
DEVICE u32 codes_of_byte(u32 word) { return flip_and(word, 0x88888888u, 0xf0f0f0f0u); }

// A slab of one activation row is 16 pieces of eight elements. In LDS each of its elements is three digits, of columns of the matrix instruction:
// [half of the words][digit of a row][part] pieces of 16 bytes, which hold the bytes of two words. Behind them, what a digit's sum is worth.
constexpr u32 DIGITS = 3, ROW_PIECES = SLAB / PIECE, ACT_DIGITS = N * DIGITS;
constexpr u32 TILES = 1, DIGIT_TILES = 1;  // of columns; tiles between which the digits of a row are divided
constexpr u32 TILE_DIGITS = 4 / DIGIT_TILES, TILE_ROWS = COLUMNS / (TILE_DIGITS * GROUPS);  // columns of a row in a tile; rows that have some there
constexpr u32 SLAB_PIECES = 2 * ACT_DIGITS * K_LANES + (ACT_DIGITS + 3) / 4;
static_assert(WORDS == 4, "the layout of digits");

constexpr u32 MANTISSA = 7, INFINITE = 255, BIAS = 127;  // of an activation
// Added to a whole number below 2^21, this leaves it in a float's lowest bits, with 128 in its lowest two bytes and 64 in the one above.
constexpr float WHOLE = 0x1.8p23f + 0x8080;

// The digits of piece `slot` of some slabs: 16 lanes side by side have a slab of an activation row. All lanes of the wave are here, `there` or not.
DEVICE void store_digits(u32x4* slabs, u32 slot, bool there, u32x4 piece) {
  u32 largest = 0;  // without the sign, numbers order as their patterns do
  UNROLL
  for (u32 i = 0; i < 4; i++) largest = max_pairs(largest, piece[i] & 0x7fff7fffu);
  largest = max_of_16_lanes(max_u32(largest & 0xffffu, largest >> 16));
  const i32 exponent = static_cast<i32>(largest >> MANTISSA), wanted = 20 + static_cast<i32>(BIAS) - max_i32(exponent, 1);
  const i32 shift = wanted < 120 ? wanted : 120;  // whatever is smaller still becomes 0
  const float factor = as_float(static_cast<u32>(shift + 127) << 23);
  const u32 part = slot % ROW_PIECES / WORDS, word = slot % WORDS, n = slot / ROW_PIECES % N;
  const u32 u = slot / (ROW_PIECES * N);  // of the trip
  u32x4* slab = slabs + u * SLAB_PIECES;
  u32 turned[2][4];  // the digits, from the lowest, of the elements whose codes are the lower halves of a word's bytes, and of the others
  UNROLL
  for (u32 half = 0; half < 2; half++) {
    const u32 a = piece[half], b = piece[half + 2];
    turn_bytes(bits_of(mul_add(low_f32(a, T{}), factor, WHOLE)), bits_of(mul_add(low_f32(b, T{}), factor, WHOLE)),
               bits_of(mul_add(high_f32(a, T{}), factor, WHOLE)), bits_of(mul_add(high_f32(b, T{}), factor, WHOLE)), turned[half]);
    turned[half][0] ^= 0x80808080u;  // taken off again
    turned[half][1] ^= 0x80808080u;
    turned[half][2] = (turned[half][2] + 0x40404040u) ^ 0x80808080u;
  }
  if (!there) return;
  UNROLL
  for (u32 d = 0; d < DIGITS; d++)
    store8_lds(slab, ((word / 2 * ACT_DIGITS + n * DIGITS + d) * K_LANES + part) * sizeof(u32x4) + word % 2 * 8, turned[0][d], turned[1][d]);
  // The codes are 16 times too large.
  const float unit = exponent == static_cast<i32>(INFINITE) ? as_float(0x7fc00000u) : as_float(static_cast<u32>(127 - 4 - shift + 8 * static_cast<i32>(part)) << 23);
  if (word == 0 && part < DIGITS) reinterpret_cast<float*>(slab + 2 * ACT_DIGITS * K_LANES)[n * DIGITS + part] = unit;
}

// Which digit, of which row, a tile's column is for. Digits beyond those that there are, and rows: the last again, which count for nothing.
DEVICE u32 digit_of_column(u32 tile, u32 column) { return tile % DIGIT_TILES * TILE_DIGITS + column % TILE_DIGITS; }
DEVICE u32 row_of_column(u32 tile, u32 column) { return tile / DIGIT_TILES * TILE_ROWS + column / (TILE_DIGITS * GROUPS); }
DEVICE u32 place_of_column(u32 tile, u32 column) {
  const u32 n = row_of_column(tile, column), d = digit_of_column(tile, column);
  return (n < N ? n : N - 1) * DIGITS + (d < DIGITS ? d : DIGITS - 1);
}

// What a lane has of the digits of a slab in one tile of columns.
struct ActDigits {
  u32 word[WORDS][2];             // of its column: the digits that meet the lower codes of a word's bytes, and the upper ones
  float worth[LANE_COLUMNS / 2];  // of every second column whose sums it gets
  i32 next[LANE_COLUMNS / 2];     // and how many times as much the one behind it: 2^8, or nothing
};
DEVICE ActDigits load_digits(const u32x4* slab, u32 tile) {
  const u32 place = place_of_column(tile, act_column());
  ActDigits x;
  UNROLL
  for (u32 half = 0; half < 2; half++) {
    const u32x4 two = load16_lds(slab, (place * K_LANES + lane_part()) * sizeof(u32x4), half * ACT_DIGITS * K_LANES * sizeof(u32x4));
    UNROLL
    for (u32 i = 0; i < 4; i++) x.word[half * 2 + i / 2][i % 2] = two[i];
  }
  const float* worth = reinterpret_cast<const float*>(slab + 2 * ACT_DIGITS * K_LANES);
  UNROLL
  for (u32 i = 0; i < LANE_COLUMNS; i += 2) {
    x.worth[i / 2] = worth[place_of_column(tile, sum_column(i))];
    x.next[i / 2] = digit_of_column(tile, sum_column(i + 1)) < DIGITS ? 256 : 0;
  }
  return x;
}
struct RowSums {
  float v[ROWS_OF_LANE];
  MEMBER float& operator[](u32 r) { return v[r]; }
  MEMBER float operator[](u32 r) const { return v[r]; }
};

// Where a lane finds the rows of its tile: for each row a base that is the same for the whole wave, and this lane's byte offset on top.
struct Rows {
  const u32* codes[Y_TILES];
  const T* scales[Y_TILES];
  u32 code_lane[Y_TILES][ROWS_OF_LANE], scale_lane[Y_TILES][ROWS_OF_LANE];

  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 code_stride, const T* scale_rows, u32 scale_stride, const u32* zero_rows, u32 zero_stride, u32 m0, u32 M) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
      codes[y] = code_rows + static_cast<u64>(m) * code_stride;
      scales[y] = scale_rows + static_cast<u64>(m) * scale_stride;
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        const u32 row = lane_row(r) < M - 1 - m ? lane_row(r) : M - 1 - m;
        code_lane[y][r] = row * code_stride * sizeof(u32);
        scale_lane[y][r] = row * scale_stride * sizeof(T);
      }
    }
  }
};

constexpr u32 SCALES = ROWS_OF_LANE;
DEVICE u32 scale_row(u32 j) { return j; }
DEVICE u32 scale_group(u32) { return 0; }

// How many slabs a wave still has from `slab` on.
DEVICE u32 slabs_left(u32 slab, u32 slabs) { return (slabs - slab + K_WAVES - 1) / K_WAVES; }

// What a lane has of U slabs of its rows.
template <u32 U> struct Trip {
  u32 codes[U][Y_TILES][ROWS_OF_LANE][WORDS];
  T scale[U][Y_TILES][SCALES];

  // From slab `slab` on, every K_WAVES-th one, `count` of them.
  MEMBER void load(const Rows& rows, u32 slab, u32 count) {
    const u32 k = slab * SLAB + lane_part() * A_CHUNK;
    UNROLL
    for (u32 u = 0; u < U && u < count; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          load_words_once(codes[u][y][r], rows.codes[y], rows.code_lane[y][r] + k / 2, u * K_WAVES * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U && u < count; u++) {
      const u32 first = (slab + u * K_WAVES) * GROUPS;
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) {
        UNROLL
        for (u32 j = 0; j < SCALES; j++) {
          u32 group = first + scale_group(j);
          scale[u][y][j] = load_one(rows.scales[y], rows.scale_lane[y][scale_row(j)] + group * sizeof(T), 0);
        }
      }
    }
  }
};

using Total = RowSums;
constexpr u32 TOTALS = TILES / DIGIT_TILES, LANE_SUMS = ROWS_OF_LANE;

// Activations of U slabs in LDS of the wave's own: the lanes fetch each piece once, and land it when the weights are on their way.
template <u32 U> struct LandedAct {
  static constexpr u32 PIECES = U * ROW_PIECES * N, SHARE = (PIECES + WAVE - 1) / WAVE;
  u32x4 fetched[SHARE];
  u32x4* mine;
  u32 count;  // slabs that there are

  MEMBER void land() const {
    wave_barrier();  // all lanes are done with the last trip
    UNROLL
    for (u32 i = 0; i < SHARE; i++)
      store_digits(mine, i * WAVE + lane_id(), i * WAVE + lane_id() < count * ROW_PIECES * N, fetched[i]);
    wave_barrier();
  }
  MEMBER ActDigits digits(u32 u, u32 tile) const { return load_digits(mine + u * SLAB_PIECES, tile); }
};
struct OfWave {
  const T* act;
  u32 act_stride, K;
  u32x4* mine;  // UNRL * SLAB_PIECES pieces

  template <u32 U> MEMBER LandedAct<U> fetch(u32 slab, u32 count) const {
    LandedAct<U> x;
    x.count = count;
    x.mine = mine;
    UNROLL
    for (u32 i = 0; i < x.SHARE; i++) {
      const u32 slot = i * WAVE + lane_id(), n = slot / ROW_PIECES % N, u = slot / (ROW_PIECES * N);
      const u32 k = (slab + u * K_WAVES) * SLAB + slot % ROW_PIECES * PIECE;
      x.fetched[i] = {};
      if (slot < x.PIECES && u < count) x.fetched[i] = load16(act + static_cast<u64>(n) * act_stride, k * sizeof(T));
    }
    return x;
  }
};

// total += weights * activations over the U slabs of a trip.
template <u32 U, class Act> DEVICE void multiply_trip(Total (&total)[TOTALS][Y_TILES], const Trip<U>& trip, const Act& act) {
  UNROLL
  for (u32 u = 0; u < U && u < act.count; u++) {
    ActDigits x[TILES];
    UNROLL
    for (u32 j = 0; j < TILES; j++) x[j] = act.digits(u, j);
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      IntSums sums[TILES] = {};
      UNROLL
      for (u32 word = 0; word < WORDS; word++) {
        u32 low[ROWS_OF_LANE], high[ROWS_OF_LANE];
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++) {
          low[r] = codes_of_byte(trip.codes[u][y][r][word] << 4);
          high[r] = codes_of_byte(trip.codes[u][y][r][word]);
        }
        UNROLL
        for (u32 j = 0; j < TILES; j++) sums[j] = multiply_digits(low, high, x[j].word[word], sums[j]);
      }
      UNROLL
      for (u32 j = 0; j < TOTALS; j++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++) {
          const u32 first = j * DIGIT_TILES;
          float sum = sum_of_digits(sums[first], r, x[first].worth, x[first].next);
          total[j][y][r] = mul_add(to_f32(trip.scale[u][y][r]), sum, total[j][y][r]);
        }
    }
  }
}

// total += rows * activations over `slabs` slabs from the beginning of K, of which a wave takes every K_WAVES-th one.
template <class Act>
DEVICE void accumulate(Total (&total)[TOTALS][Y_TILES], const Rows& rows, const Act& act, u32 k_wave, u32 slabs) {
  NO_UNROLL
  for (u32 slab = k_wave; slab < slabs; slab += K_WAVES * UNRL) {
    const u32 count = slabs_left(slab, slabs);
    __builtin_assume(count > 0);  // no branch between the first slab's loads, in front of which activations would be waited for
    auto x = act.template fetch<UNRL>(slab, count);
    Trip<UNRL> trip;
    trip.load(rows, slab, count);
    issue_first();
    x.land();
    multiply_trip(total, trip, x);
  }
}

SHARED u32x4 staged[WvPrGrp][UNRL * SLAB_PIECES];
constexpr u32 GROUP_ROWS = WvPrGrp / K_WAVES * YTILE;  // rows of a work-group's tile
constexpr u32 ADDENDS = N;
SHARED float exchanged[2][WvPrGrp * YTILE * ADDENDS];  // [row of a wave][addend]; two, so that one barrier per tile is enough

// Bring a wave's sums to LDS.
DEVICE void exchange(const Total (&total)[TOTALS][Y_TILES], u32 round) {
  const u32 first = wave_id() * YTILE;
  UNROLL
  for (u32 j = 0; j < TOTALS; j++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++)
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        const float value = sum_of_row<GROUPS>(total[j][y][r]);
        const u32 n = j * TILE_ROWS + row_of_lane<GROUPS>();
        if (first_of_row<GROUPS>() && n < N) exchanged[round][(first + y * ROWS + lane_row(r)) * ADDENDS + n] = value;
      }
}

// Add what the waves brought for the tile that begins at row m0, add bias, round once and store the rows that exist.
DEVICE void finish(u32 round, const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  const u32 i = thread_id(), n = i / GROUP_ROWS, row = i % GROUP_ROWS, m = m0 + row;
  if (i < GROUP_ROWS * N && m < M) {
    const float* from = exchanged[round] + (row / YTILE * K_WAVES * YTILE + row % YTILE) * ADDENDS;
    float value = 0;
    UNROLL
    for (u32 wave = 0; wave < K_WAVES; wave++, from += YTILE * ADDENDS)
      value += from[n];
    if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
    out[static_cast<u64>(n) * M + m] = round_to<T>(value);
  }
}

// codes [M, K / 8] words, scales [M, K / GROUP_SIZE], zeros [ceil(M / 8), K / GROUP_SIZE] words or null, act [N, K]; strides in elements (words)
// of rows. bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_int4_bf16_N4_THRDS64_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_DEQUANTdigits_STAGINGwave(
    const u32* codes, const T* scales, const u32* zeros, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 code_stride, u32 scale_stride, u32 zero_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 slabs = (K + SLAB - 1) / SLAB;
  const u32 wave = wave_id();
  const OfWave at = {act, act_stride, K, staged[wave]};

  u32 round = 0;
  for (u32 tile = group_id(); tile * GROUP_ROWS < M; tile += groups) {
    const u32 m0 = tile * GROUP_ROWS;
    Rows rows;
    rows.set(codes, code_stride, scales, scale_stride, zeros, zero_stride, m0, M);
    Total total[TOTALS][Y_TILES] = {};
    accumulate(total, rows, at, wave, slabs);
    exchange(total, round);
    barrier();
    finish(round, bias, bias_stride, out, m0, M);
    round ^= 1;
  }
}
