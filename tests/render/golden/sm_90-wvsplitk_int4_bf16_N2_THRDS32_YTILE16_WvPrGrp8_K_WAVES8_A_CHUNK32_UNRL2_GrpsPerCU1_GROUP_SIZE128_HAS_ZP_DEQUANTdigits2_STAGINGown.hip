// wvsplitk_int4_bf16_N2_THRDS32_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTdigits2_STAGINGown   made by kgen from wvsplitk_int4.hip.jinja; edit the template, not this file
// ---- prelude: NVIDIA sm_90, wave32 ----
#define GLOBAL extern "C" __global__ __launch_bounds__(256, 1)
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
// By the path of what may be written: loads of what no one writes (.nc) the compiler puts behind code that waits for others.
#define LOAD_ONCE "ld.global.L1::no_allocate.L2::128B"
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
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(x) : "l"(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm)));
  return x;
}
template <class T> DEVICE T load_one(const T* base, u32 lane_offset, u32 imm) {
  T x;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(x.bits) : "l"(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm)));
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

// ---- prelude: from lane to lane; NVIDIA sm_90 ----
// All lanes of the wave are here. Of the lane whose number is `distance` away, counted by xor; of lane `lane`.
DEVICE u32 across(u32 x, u32 distance) { return __shfl_xor_sync(0xffffffffu, x, distance); }
DEVICE float across(float x, u32 distance) { return __shfl_xor_sync(0xffffffffu, x, distance); }
DEVICE float of_lane(float x, u32 lane) { return __shfl_sync(0xffffffffu, x, lane); }
// Bytes of a (0 to 3) and b (4 to 7): those that the four lowest digits of `which` name, the lowest first.
DEVICE u32 pick_bytes(u32 a, u32 b, u32 which) { return __byte_perm(a, b, which); }
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
// digits: the codes stay integers. Of each byte the upper code, less 8 and times 16: its highest bit inverted is the sign.
DEVICE u32 codes_of_byte(u32 word) { return flip_and(word, 0x88888888u, 0xf0f0f0f0u); }

constexpr u32 N = 2, YTILE = 16, WvPrGrp = 8, A_CHUNK = 32, UNRL = 2;
constexpr u32 GROUP_SIZE = 128;  // K elements that share a scale and a zero point
constexpr u32 K_WAVES = 8;       // waves that share the K of a tile
constexpr u32 WORDS = A_CHUNK / 8;    // of a chunk: what one lane loads of a row at once
constexpr u32 PART = 4 * A_CHUNK;     // K elements whose activations share an exponent: four lanes bring them of a row
constexpr u32 GROUPS = PART / GROUP_SIZE;  // of a part
// A load of the wave brings eight rows of the matrix instruction: of each of PART_ROWS weight rows PARTS parts, side by side in memory. In load j
// row g is weight row j * PART_ROWS + g / PARTS and part (g ^ j) % PARTS, so that of PARTS loads one has the part that a lane's sums are of.
constexpr u32 PARTS = 2, PART_ROWS = 8 / PARTS, SLAB = PARTS * PART;
constexpr u32 OCTETS = YTILE / 8, LOADS = OCTETS * PARTS;  // of weight rows; loads for those of a slab
// Columns come in pairs, the two digits of an activation: pair (part * N + n) * GROUPS + group.
constexpr u32 TILES = 1;
constexpr u32 GROUP_ROWS = WvPrGrp / K_WAVES * YTILE;  // rows of a work-group's tile
static_assert(PARTS == 1 || PARTS * N * GROUPS == 4, "a tile of columns has all parts");

DEVICE u32 part_of_pair(u32 pair) { return PARTS > 1 ? pair / (N * GROUPS) : 0; }
DEVICE u32 row_of_pair(u32 pair) { return PARTS > 1 ? pair / GROUPS % N : pair / GROUPS; }
// The pair of the column that a lane brings, and that of its sums. Which of PARTS loads those are of, and of which of its weight rows.
DEVICE u32 act_pair(u32 tile) { return tile * 4 + lane_id() / 8; }
DEVICE u32 sum_pair(u32 tile) { return tile * 4 + lane_id() % 4; }
DEVICE u32 sum_load() { return (part_of_pair(sum_pair(0)) ^ lane_id() / 4) % PARTS; }
DEVICE u32 sum_row() { return sum_load() * PART_ROWS + lane_id() / 4 / PARTS; }

constexpr u32 MANTISSA = 7, INFINITE = 255, BIAS = 127;  // of an activation
// Added to a whole number below 2^15, this leaves it in a float's lowest bits, with 128 in its lowest two bytes.
constexpr float WHOLE = 0x1.8p23f + 0x8080;

// What a lane multiplies a part of K by: digit lane / 4 % 2 of its pair's activations.
struct Digits {
  u32 word[WORDS][2];  // those that meet the lower codes of a word's bytes, and the upper ones
  float worth;         // of a unit of the lane's sums
  i32 sum;             // sixteen times what is added up for them
};

// The activations of a lane's part and row: half of them, the lane of the pair's other digit brings the rest.
struct ActPieces {
  u32x4 piece[WORDS / 2];

  // Of the slab that starts at k, or zeros.
  MEMBER void load(const T* act, u32 act_stride, u32 tile, u32 k, bool there) {
    const u32 pair = act_pair(tile), n = row_of_pair(pair), half = lane_id() / 4 % 2;
    const T* at = act + (n * act_stride + k + part_of_pair(pair) * PART + lane_id() % 4 * A_CHUNK + half * (A_CHUNK / 2));
    UNROLL
    for (u32 i = 0; i < WORDS / 2; i++) {
      piece[i] = {};
      if (there) piece[i] = load16(at, 0, i * sizeof(u32x4));
    }
  }

  MEMBER Digits digits() const {
    u32 most = 0;  // without the sign, numbers order as their patterns do
    UNROLL
    for (u32 i = 0; i < WORDS / 2 * 4; i++) most = max_pairs(most, piece[i / 4][i % 4] & 0x7fff7fffu);
    u32 largest = max_u32(most & 0xffffu, most >> 16);
    UNROLL
    for (u32 distance = 1; distance < 8; distance *= 2) largest = max_u32(largest, across(largest, distance));
    // x = round(a * 2^shift) = d0 + 2^8 d1, the largest in [2^14, 2^15), or just below where d1 would be 128.
    const i32 exponent = static_cast<i32>((largest + (1u << (MANTISSA - 7))) >> MANTISSA), wanted = 14 + static_cast<i32>(BIAS) - max_i32(exponent, 1);
    const i32 shift = wanted < 120 ? wanted : 120;  // whatever is smaller still becomes 0
    const float factor = as_float(static_cast<u32>(shift + 127) << 23);
    const bool upper = lane_id() / 4 % 2;
    const u32 mine = upper ? 0x7632 : 0x5410, others = upper ? 0x5410 : 0x7632;
    Digits x;
    UNROLL
    for (u32 i = 0; i < WORDS / 2; i++)
      UNROLL
      for (u32 half = 0; half < 2; half++) {
        const u32 a = piece[i][half], b = piece[i][half + 2];
        const u32 low = pick_bytes(bits_of(mul_add(low_f32(a, T{}), factor, WHOLE)), bits_of(mul_add(low_f32(b, T{}), factor, WHOLE)), 0x5140);
        const u32 high = pick_bytes(bits_of(mul_add(high_f32(a, T{}), factor, WHOLE)), bits_of(mul_add(high_f32(b, T{}), factor, WHOLE)), 0x5140);
        const u32 kept = pick_bytes(low, high, mine) ^ 0x80808080u, come = across(pick_bytes(low, high, others) ^ 0x80808080u, 4);
        x.word[i][half] = upper ? come : kept;
        x.word[i + WORDS / 2][half] = upper ? kept : come;
      }
    // The codes are 16 times too large.
    const float unit = largest >> MANTISSA == INFINITE ? as_float(0x7fc00000u) : as_float(static_cast<u32>(127 - 4 - shift) << 23);
    x.worth = of_lane(unit, lane_id() % 4 * 8);
    IntSums sums = {};
    UNROLL
    for (u32 word = 0; word < WORDS; word++) sums = multiply_ones(x.word[word], sums);
    x.sum = sums[1] * 256 + sums[0];
    return x;
  }
};

// What a lane fetches for a trip's slabs, from slab `slab` on, and what it makes of that.
DEVICE void fetch(ActPieces (&pieces)[UNRL][TILES], const T* act, u32 act_stride, u32 slab, u32 slabs) {
  UNROLL
  for (u32 u = 0; u < UNRL; u++)
    UNROLL
    for (u32 tile = 0; tile < TILES; tile++)
      pieces[u][tile].load(act, act_stride, tile, (slab + u * K_WAVES) * SLAB, slab + u * K_WAVES < slabs);
}
DEVICE void make_digits(const ActPieces (&pieces)[UNRL][TILES], Digits (&x)[UNRL][TILES]) {
  UNROLL
  for (u32 u = 0; u < UNRL; u++)
    UNROLL
    for (u32 tile = 0; tile < TILES; tile++) x[u][tile] = pieces[u][tile].digits();
}

// Where a lane finds its rows of the tile: elements (words) from bases that are the same for all. 32 bits, and every address is two instructions.
struct Rows {
  const u32* codes;
  const T* scales;
  const u32* zeros;
  u32 code_lane[PARTS], scale_lane, zero_lane, zero_shift;
  u32 eight_codes, eight_scales, eight_zeros;  // to the row eight further on

  // The tile that begins at row m0.
  MEMBER void set(const u32* code_rows, u32 code_stride, const T* scale_rows, u32 scale_stride, const u32* zero_rows, u32 zero_stride, u32 m0) {
    codes = code_rows, scales = scale_rows, eight_codes = 8 * code_stride, eight_scales = 8 * scale_stride;
    const u32 g = lane_id() / 4;
    UNROLL
    for (u32 j = 0; j < PARTS; j++) code_lane[j] = (m0 + j * PART_ROWS + g / PARTS) * code_stride + (g ^ j) % PARTS * (PART / 8) + lane_id() % 4 * WORDS;
    const u32 m = m0 + sum_row(), group = part_of_pair(sum_pair(0)) * GROUPS;
    scale_lane = m * scale_stride + group;
    zeros = zero_rows, eight_zeros = zero_stride;
    zero_lane = m / 8 * zero_stride + group;
    zero_shift = m % 8 * 4;
  }
};

// What a lane has of a trip: UNRL slabs of its rows.
struct Trip {
  u32 codes[UNRL][LOADS][WORDS];
  T scale[UNRL][OCTETS];
  u32 zero[UNRL][OCTETS];

  // From slab `slab` on, every K_WAVES-th one; beyond the last one the first again, against activations that are zero.
  MEMBER void load(const Rows& rows, u32 slab, u32 slabs) {
    UNROLL
    for (u32 u = 0; u < UNRL; u++) {
      const u32 s = slab + u * K_WAVES < slabs ? slab + u * K_WAVES : 0;
      UNROLL
      for (u32 o = 0; o < OCTETS; o++) scale[u][o] = load_one(rows.scales + (rows.scale_lane + o * rows.eight_scales + s * (PARTS * GROUPS)), 0, 0);
      UNROLL
      for (u32 o = 0; o < OCTETS; o++) zero[u][o] = load_one(rows.zeros + (rows.zero_lane + o * rows.eight_zeros + s * (PARTS * GROUPS)), 0, 0);
      UNROLL
      for (u32 j = 0; j < LOADS; j++)
        load_words_once(codes[u][j], rows.codes + (rows.code_lane[j % PARTS] + j / PARTS * rows.eight_codes + s * (SLAB / 8)), 0, 0);
    }
  }
};

// Sums of a lane: of weight row sum_row() of each eight. In whole numbers they stay below 2^30: 128 times 128 times 2^15, and zero points as much again.
using Total = float[TILES][OCTETS];

// total += weights * activations over the slabs of a trip. One matrix instruction takes two loads.
DEVICE void multiply_trip(Total& total, const Trip& trip, const Rows& rows, const Digits (&x)[UNRL][TILES]) {
  UNROLL
  for (u32 u = 0; u < UNRL; u++) {
    i32 sum[TILES][OCTETS];
    UNROLL
    for (u32 j = 0; j < LOADS; j += 2) {
      IntSums sums[TILES] = {};
      UNROLL
      for (u32 word = 0; word < WORDS; word++) {
        u32 low[2], high[2];
        UNROLL
        for (u32 r = 0; r < 2; r++) {
          low[r] = codes_of_byte(trip.codes[u][j + r][word] << 4);
          high[r] = codes_of_byte(trip.codes[u][j + r][word]);
        }
        UNROLL
        for (u32 tile = 0; tile < TILES; tile++) sums[tile] = multiply_digits(low, high, x[u][tile].word[word], sums[tile]);
      }
      UNROLL
      for (u32 tile = 0; tile < TILES; tile++)
        UNROLL
        for (u32 r = 0; r < 2; r++)
          if ((j + r) % PARTS == 0 || (j + r) % PARTS == sum_load()) sum[tile][(j + r) / PARTS] = sums[tile][2 * r + 1] * 256 + sums[tile][2 * r];
    }
    UNROLL
    for (u32 tile = 0; tile < TILES; tile++)
      UNROLL
      for (u32 o = 0; o < OCTETS; o++) {
        const i32 zero = 8 - static_cast<i32>(trip.zero[u][o] >> rows.zero_shift & 15);
        const float whole = static_cast<float>(zero * x[u][tile].sum + sum[tile][o]);
        total[tile][o] = mul_add(to_f32(trip.scale[u][o]) * x[u][tile].worth, whole, total[tile][o]);
      }
  }
}

// Where the waves' sums meet: [wave][tile of columns][row of the wave], the four pairs of the tile side by side. Two, so that one barrier per tile is enough.
SHARED f32x4 exchanged[2][WvPrGrp][TILES][YTILE];
DEVICE void exchange(const Total& total, u32 round, u32 wave) {
  UNROLL
  for (u32 tile = 0; tile < TILES; tile++)
    UNROLL
    for (u32 o = 0; o < OCTETS; o++) exchanged[round][wave][tile][o * 8 + sum_row()][lane_id() % 4] = total[tile][o];
}

// The first row that a wave works on: a tile that would end beyond M has the last YTILE rows, some of which are another's.
DEVICE u32 first_row(u32 m, u32 M) { return m < M - YTILE ? m : M - YTILE; }

// Add what the waves brought for the tile that begins at row m0, add bias, round once and store the rows that exist. K_WAVES lanes have a row.
DEVICE void finish(u32 round, const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  const u32 row = thread_id() / K_WAVES, share = thread_id() % K_WAVES;
  if (row >= GROUP_ROWS) return;
  float value[N] = {};
  UNROLL
  for (u32 tile = 0; tile < TILES; tile++) {
    const f32x4 sums = exchanged[round][row / YTILE * K_WAVES + share][tile][row % YTILE];
    UNROLL
    for (u32 e = 0; e < 4; e++)
      if (row_of_pair(tile * 4 + e) < N) value[row_of_pair(tile * 4 + e)] += sums[e];
  }
  UNROLL
  for (u32 distance = 1; distance < K_WAVES; distance *= 2)
    UNROLL
    for (u32 n = 0; n < N; n++) value[n] += across(value[n], distance);
  const u32 nominal = m0 + row / YTILE * YTILE, m = first_row(nominal, M) + row % YTILE;
  if (m < nominal) return;
  UNROLL
  for (u32 n = 0; n < N; n++) {
    if (share != n % K_WAVES) continue;
    if (bias) value[n] += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
    out[static_cast<u64>(n) * M + m] = round_to<T>(value[n]);
  }
}

// codes [M, K / 8] words, scales [M, K / GROUP_SIZE], zeros [ceil(M / 8), K / GROUP_SIZE] words or null, act [N, K]; strides in elements (words)
// of rows. bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_int4_bf16_N2_THRDS32_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTdigits2_STAGINGown(
    const u32* codes, const T* scales, const u32* zeros, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 code_stride, u32 scale_stride, u32 zero_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 slabs = (K + SLAB - 1) / SLAB;
  const u32 wave = wave_id();

  // Each lane's digits serve all tiles, and a tile's weights are on their way before the last one's sums meet.
  u32 round = 0, tile = group_id();
  const u32 slab = wave;
  Rows rows;
  Trip trip;
  const auto begin_tile = [&] {
    rows.set(codes, code_stride, scales, scale_stride, zeros, zero_stride, first_row(tile * GROUP_ROWS, M));
    trip.load(rows, slab, slabs);
  };
  ActPieces act_pieces[UNRL][TILES];
  fetch(act_pieces, act, act_stride, slab, slabs);
  begin_tile();
  Digits x[UNRL][TILES];
  make_digits(act_pieces, x);
  NO_UNROLL
  while (true) {
    Total total = {};
    multiply_trip(total, trip, rows, x);
    const u32 m0 = tile * GROUP_ROWS;
    tile += groups;
    const bool more = tile * GROUP_ROWS < M;
    if (more) begin_tile();
    exchange(total, round, wave);
    barrier();
    finish(round, bias, bias_stride, out, m0, M);
    if (!more) break;
    round ^= 1;
  }
}
