// wvsplitk_int4_fp16_N2_THRDS32_YTILE16_WvPrGrp4_K_WAVES4_A_CHUNK32_UNRL1_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTdigits_STAGINGown   made by kgen from wvsplitk_int4.hip.jinja; edit the template, not this file
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

// ---- prelude: 4-bit weights; NVIDIA sm_90 ----
// `WORDS` 32-bit words at base + lane_offset + imm (bytes), read once.
#define LOAD_ONCE "ld.global.nc.L1::no_allocate.L2::128B"
template <class T> DEVICE void load_words_once(u32 (&to)[4], const T* base, u32 lane_offset, u32 imm) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm);
  asm volatile(LOAD_ONCE ".v4.u32 { %0, %1, %2, %3 }, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "l"(at));
}
template <class T> DEVICE void load_words_once(u32 (&to)[2], const T* base, u32 lane_offset, u32 imm) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm);
  asm volatile(LOAD_ONCE ".v2.u32 { %0, %1 }, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(at));
}
template <class T> DEVICE void load_words_once(u32 (&to)[1], const T* base, u32 lane_offset, u32 imm) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm);
  asm volatile(LOAD_ONCE ".u32 %0, [%1];" : "=r"(to[0]) : "l"(at));
}
// One element at base + lane_offset + imm (bytes).
DEVICE u32 load_one(const u32* base, u32 lane_offset, u32 imm) {
  u32 x;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(x) : "l"(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm)));
  return x;
}
template <class T> DEVICE T load_one(const T* base, u32 lane_offset, u32 imm) {
  T x;
  asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(x.bits) : "l"(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm)));
  return x;
}

// a * b + c, rounded once: said in so many words, so that the compiler does the same for every row.
DEVICE float mul_add(float a, float b, float c) { return fmaf(a, b, c); }
// (x & mask) | bits as one instruction: both constants come from registers, since it takes one immediate only.
DEVICE u32 and_or(u32 x, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(x), "r"(mask), "r"(bits));
  return r;
}
// All lanes of the wave are here; its LDS writes before are seen after.
DEVICE void wave_barrier() { __syncwarp(); }

// A register holds two 16-bit elements, the lower half the first.
template <class T> DEVICE u32 sub_pairs(u32 a, u32 b);
template <> MEMBER u32 sub_pairs<bf16>(u32 a, u32 b) {
  u32 r;
  asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
template <> MEMBER u32 sub_pairs<fp16>(u32 a, u32 b) {
  u32 r;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
template <class T> DEVICE u32 mul_add_pairs(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
// Rounded to nearest even.
template <class T> DEVICE u32 pack(float low, float high) {
  return round_to<T>(low).bits | static_cast<u32>(round_to<T>(high).bits) << 16;
}
DEVICE u32 pack_finite(float low, float high, bf16) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE u32 pack_finite(float low, float high, fp16) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
// Rounded toward zero.
DEVICE u32 pack_truncated(float low, float high, bf16) {
  return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}
DEVICE u32 pack_truncated(float low, float high, fp16) {
  u32 r;
  asm("cvt.rz.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// Sixteen weight rows side by side: lane l holds rows l / 4 and l / 4 + 8 and the part l % 4 of every slab of K. The sums of a lane belong to
// its own two rows: element i is row i / 2 of those, column l % 4 * 2 + i % 2.
constexpr u32 ROWS_OF_LANE = 2, COLUMNS = 8;
using Sums = f32x4;
DEVICE u32 lane_row(u32 r) { return lane_id() / 4 + 8 * r; }
DEVICE u32 lane_part() { return lane_id() % 4; }
DEVICE u32 act_column() { return lane_id() / 4; }
DEVICE u32 sum_row(u32 i) { return i / 2; }
DEVICE u32 sum_column(u32 i) { return lane_id() % 4 * 2 + i % 2; }
// sums + the products of 8 elements of each row with 8 of each column.
template <class T> DEVICE Sums multiply_rows(const u32 (&rows)[ROWS_OF_LANE][4], u32x4 act, Sums sums) {
  Fragment a;
  UNROLL
  for (u32 r = 0; r < 2; r++)
    UNROLL
    for (u32 i = 0; i < 4; i++) a.row[r][i] = rows[r][i];
  UNROLL
  for (u32 s = 0; s < 2; s++) mma(a, act, sums.v, s, T{});
  return sums;
}
// Sum of the 8 elements of a piece.
template <class T> DEVICE float sum_of_piece(u32x4 piece, float sum) {
  UNROLL
  for (u32 i = 0; i < 4; i++) sum += low_f32(piece[i], T{}) + high_f32(piece[i], T{});
  return sum;
}
// ---- end of prelude ----

// ---- prelude: the integer matrix instruction; NVIDIA sm_90 ----
// (x ^ flip) & mask as one instruction, with both constants kept in registers: it takes one immediate only, and the compiler would move the other in each time.
DEVICE u32 flip_and(u32 x, u32 flip, u32 mask) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0x28;" : "=r"(r) : "r"(x), "r"(flip), "r"(mask));
  return r;
}
DEVICE u32 max_u32(u32 a, u32 b) { return a > b ? a : b; }
DEVICE i32 max_i32(i32 a, i32 b) { return a > b ? a : b; }
// The larger one of each half.
DEVICE u32 max_pairs(u32 a, u32 b) { return __vmaxu2(a, b); }
// In every lane the largest of 16 lanes side by side.
DEVICE u32 max_of_16_lanes(u32 x) {
  UNROLL
  for (u32 distance = 8; distance > 0; distance /= 2) x = max_u32(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}
DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE void store8_lds(u32x4* base, u32 offset, u32 low, u32 high) {
  *reinterpret_cast<u64*>(reinterpret_cast<char*>(base) + offset) = static_cast<u64>(high) << 32 | low;
}
// Byte i of a, b, c and d, in that order, to to[i].
DEVICE void turn_bytes(u32 a, u32 b, u32 c, u32 d, u32 (&to)[4]) {
  const u32 ab01 = __byte_perm(a, b, 0x5140), ab23 = __byte_perm(a, b, 0x7362), cd01 = __byte_perm(c, d, 0x5140), cd23 = __byte_perm(c, d, 0x7362);
  to[0] = __byte_perm(ab01, cd01, 0x5410);
  to[1] = __byte_perm(ab01, cd01, 0x7632);
  to[2] = __byte_perm(ab23, cd23, 0x5410);
  to[3] = __byte_perm(ab23, cd23, 0x7632);
}

// Sums as of multiply_rows, in whole numbers: of each row two columns side by side.
constexpr u32 LANE_COLUMNS = 2;
struct IntSums {
  i32 v[4];
  MEMBER i32& operator[](u32 i) { return v[i]; }
  MEMBER i32 operator[](u32 i) const { return v[i]; }
};
// sums + the products of the codes of a word of each row, bytes of either sign, with the digits of a column.
DEVICE IntSums multiply_digits(const u32 (&low)[ROWS_OF_LANE], const u32 (&high)[ROWS_OF_LANE], const u32 (&act)[2], IntSums sums) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 { %0, %1, %2, %3}, { %4, %5, %6, %7}, { %8, %9}, { %0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(low[0]), "r"(low[1]), "r"(high[0]), "r"(high[1]), "r"(act[0]), "r"(act[1]));
  return sums;
}
DEVICE IntSums multiply_ones(const u32 (&act)[2], IntSums sums) {
  const u32 ones[ROWS_OF_LANE] = {0x10101010u, 0x10101010u};
  return multiply_digits(ones, ones, act, sums);
}
// What the sums of a lane's row r are together: below 2^22 each, so that those of two digits are a whole number still.
DEVICE float sum_of_digits(const IntSums& sums, u32 r, const float (&worth)[LANE_COLUMNS / 2], const i32 (&next)[LANE_COLUMNS / 2]) {
  return static_cast<float>(sums[2 * r + 1] * next[0] + sums[2 * r]) * worth[0];
}
// The digits of an activation row lie in two lanes side by side, or, where a slab has several groups, in four: its sum, in the first of them.
template <u32 GROUPS> DEVICE float sum_of_row(float x) {
  UNROLL
  for (u32 distance = 1; distance < (GROUPS > 1 ? 4 : 2); distance *= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
template <u32 GROUPS> DEVICE u32 row_of_lane() { return GROUPS > 1 ? 0 : lane_id() % 4 / 2; }
template <u32 GROUPS> DEVICE bool first_of_row() { return lane_id() % (GROUPS > 1 ? 4 : 2) == 0; }
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = fp16;
constexpr u32 N = 2, YTILE = 16, WvPrGrp = 4, A_CHUNK = 32, UNRL = 1;
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
constexpr u32 K_WAVES = 4;       // waves that share the K of a tile

// digits: the codes stay integers. Of each byte the upper code, less 8 and times 16: its highest bit inverted is the sign.
DEVICE u32 codes_of_byte(u32 word) { return flip_and(word, 0x88888888u, 0xf0f0f0f0u); }

// A slab of one activation row is 16 pieces of eight elements. In LDS each of its elements is three digits, of columns of the matrix instruction:
// [half of the words][digit of a row][part] pieces of 16 bytes, which hold the bytes of two words. Behind them, what a digit's sum is worth.
constexpr u32 DIGITS = 3, ROW_PIECES = SLAB / PIECE, ACT_DIGITS = N * DIGITS;
constexpr u32 TILES = 1, DIGIT_TILES = 1;  // of columns; tiles between which the digits of a row are divided
constexpr u32 TILE_DIGITS = 4 / DIGIT_TILES, TILE_ROWS = COLUMNS / (TILE_DIGITS * GROUPS);  // columns of a row in a tile; rows that have some there
constexpr u32 SLAB_PIECES = 2 * ACT_DIGITS * K_LANES + (ACT_DIGITS + 3) / 4;
static_assert(WORDS == 4, "the layout of digits");

constexpr u32 MANTISSA = 10, INFINITE = 31, BIAS = 15;  // of an activation
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
  u32x4* slab = slabs + u * K_WAVES * SLAB_PIECES;
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

// Where a lane finds its rows of the tile: elements (words) from bases that are the same for all. 32 bits, and every address is one instruction.
struct Rows {
  const u32* codes;
  const T* scales;
  const u32* zeros;
  u32 zero_shift[Y_TILES][ROWS_OF_LANE];
  u32 code_lane[Y_TILES][ROWS_OF_LANE], scale_lane[Y_TILES][ROWS_OF_LANE], zero_lane[Y_TILES][ROWS_OF_LANE];

  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 code_stride, const T* scale_rows, u32 scale_stride, const u32* zero_rows, u32 zero_stride, u32 m0, u32 M) {
    codes = code_rows;
    scales = scale_rows;
    zeros = zero_rows;
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        const u32 row = lane_row(r) < M - 1 - m ? lane_row(r) : M - 1 - m;
        code_lane[y][r] = (m + row) * code_stride;
        scale_lane[y][r] = (m + row) * scale_stride;
        zero_lane[y][r] = (m + row) / 8 * zero_stride;
        zero_shift[y][r] = (m + row) % 8 * 4;
      }
    }
  }
};

constexpr u32 SCALES = ROWS_OF_LANE;
DEVICE u32 scale_row(u32 j) { return j; }
DEVICE u32 scale_group(u32) { return 0; }

// What a lane has of U slabs of its rows.
template <u32 U> struct Trip {
  u32 codes[U][Y_TILES][ROWS_OF_LANE][WORDS];
  T scale[U][Y_TILES][SCALES];
  u32 zero[U][Y_TILES][ROWS_OF_LANE];

  // From slab `slab` on, every K_WAVES-th one.
  MEMBER void load(const Rows& rows, u32 slab) {
    const u32 k = slab * SLAB + lane_part() * A_CHUNK;
    const u32 word = slab * (SLAB / 8) + lane_part() * WORDS;
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          load_words_once(codes[u][y][r], rows.codes + (rows.code_lane[y][r] + word), 0, u * K_WAVES * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U; u++) {
      const u32 first = (slab + u * K_WAVES) * GROUPS;
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) {
        UNROLL
        for (u32 j = 0; j < SCALES; j++) {
          u32 group = first + scale_group(j);
          scale[u][y][j] = load_one(rows.scales + (rows.scale_lane[y][scale_row(j)] + group), 0, 0);
        }
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          zero[u][y][r] = load_one(rows.zeros + (rows.zero_lane[y][r] + (k + u * K_WAVES * SLAB) / GROUP_SIZE), 0, 0) >> rows.zero_shift[y][r] & 15;
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

  MEMBER void land() const {
    UNROLL
    for (u32 i = 0; i < SHARE; i++)
      store_digits(mine, i * WAVE + lane_id(), i * WAVE + lane_id() < PIECES, fetched[i]);
    wave_barrier();
  }
};
// Slabs of a trip where they have landed.
struct KeptAct {
  const u32x4* mine;

  MEMBER ActDigits digits(u32 u, u32 tile) const { return load_digits(mine + u * K_WAVES * SLAB_PIECES, tile); }
};
struct OfWave {
  const T* act;
  u32 act_stride, K;
  u32x4* mine;  // SLAB_PIECES pieces for each slab of the row; a wave fills its own

  template <u32 U> MEMBER LandedAct<U> fetch(u32 slab) const {
    LandedAct<U> x;
    x.mine = mine + slab * SLAB_PIECES;
    UNROLL
    for (u32 i = 0; i < x.SHARE; i++) {
      const u32 slot = i * WAVE + lane_id(), n = slot / ROW_PIECES % N, u = slot / (ROW_PIECES * N);
      const u32 k = (slab + u * K_WAVES) * SLAB + slot % ROW_PIECES * PIECE;
      x.fetched[i] = {};
      if (slot < x.PIECES) x.fetched[i] = load16(act + (n * act_stride + k), 0);
    }
    return x;
  }
};

// total += weights * activations over the U slabs of a trip.
template <u32 U, class Act> DEVICE void multiply_trip(Total (&total)[TOTALS][Y_TILES], const Trip<U>& trip, const Act& act) {
  UNROLL
  for (u32 u = 0; u < U; u++) {
    ActDigits x[TILES];
    UNROLL
    for (u32 j = 0; j < TILES; j++) x[j] = act.digits(u, j);
    IntSums ones[TILES] = {};  // sixteen times the digits' own sums
    UNROLL
    for (u32 j = 0; j < TILES; j++)
      UNROLL
      for (u32 word = 0; word < WORDS; word++) ones[j] = multiply_ones(x[j].word[word], ones[j]);
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      IntSums sums[TILES] = {};
      UNROLL
      for (u32 j = 0; j < TILES; j++)
        UNROLL
        for (u32 i = 0; i < 4; i++) sums[j][i] = (8 - static_cast<i32>(trip.zero[u][y][sum_row(i)])) * ones[j][i];
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

SHARED_AT_LAUNCH u32x4 staged[];  // all slabs, each of one wave
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
GLOBAL void wvsplitk_int4_fp16_N2_THRDS32_YTILE16_WvPrGrp4_K_WAVES4_A_CHUNK32_UNRL1_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTdigits_STAGINGown(
    const u32* codes, const T* scales, const u32* zeros, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 code_stride, u32 scale_stride, u32 zero_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 slabs = (K + SLAB - 1) / SLAB;
  const u32 wave = wave_id();
  const OfWave at = {act, act_stride, K, staged};

  // The first weights of a tile are on their way before the last one's sums meet. K is whole trips of every wave.
  u32 round = 0, tile = group_id();
  Rows rows;
  Trip<UNRL> trip;
  const auto begin_tile = [&] {
    rows.set(codes, code_stride, scales, scale_stride, zeros, zero_stride, tile * GROUP_ROWS, M);
    trip.load(rows, wave);
  };
  if (tile * GROUP_ROWS < M) begin_tile();
  issue_first();
  NO_UNROLL
  for (u32 slab = wave; slab < slabs; slab += K_WAVES * UNRL) at.template fetch<UNRL>(slab).land();
  NO_UNROLL
  while (tile * GROUP_ROWS < M) {
    Total total[TOTALS][Y_TILES] = {};
    NO_UNROLL
    for (u32 slab = wave; slab < slabs; slab += K_WAVES * UNRL) {
      if (slab != wave) trip.load(rows, slab);
      issue_first();
      multiply_trip(total, trip, KeptAct{staged + slab * SLAB_PIECES});
    }
    const u32 m0 = tile * GROUP_ROWS;
    tile += groups;
    if (tile * GROUP_ROWS < M) begin_tile();
    exchange(total, round);
    barrier();
    finish(round, bias, bias_stride, out, m0, M);
    round ^= 1;
  }
}
