// gemm_4bit_bf16_N1_THRDS32_YTILE8_WvPrGrp8_K_WAVES4_A_CHUNK16_UNRL1_GrpsPerCU1_GROUP_SIZE64_TABLEpages_COPIES32_STAGINGglobal_K_PARTS8_AHEAD   made by kgen from gemm_4bit.hip.jinja; edit the template, not this file
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

constexpr u32 ROWS_OF_LANE = 2;
using Sums = f32x4;
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

// ---- prelude: table look-ups by permutes; NVIDIA sm_90 ----
using u8 = unsigned char;
using f32 = float;
using fp32 = float;
DEVICE float to_f32(float x) { return x; }
template <> MEMBER float round_to<float>(float x) { return x; }
// a * b, rounded: never part of a multiply-add with what comes next, so that every row's sum is made alike.
DEVICE float multiplied(float a, float b) { return __fmul_rn(a, b); }
// Two fp32 numbers; sum + a * b of both.
struct f32x2 { float x, y; };
DEVICE f32x2 f32_pair(u32 x, u32 y) { return {as_float(x), as_float(y)}; }
DEVICE f32x2 multiply_add(f32x2 a, f32x2 b, f32x2 sum) { return {fmaf(a.x, b.x, sum.x), fmaf(a.y, b.y, sum.y)}; }
DEVICE float load_one(const float* base, u32 lane_offset, u32 imm) {
  float x;
  asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(x) : "l"(reinterpret_cast<const char*>(base) + lane_offset + static_cast<u64>(imm)));
  return x;
}
DEVICE u8 load_one(const u8* base, u32 lane_offset, u32 imm) {
  u16 x;
  asm volatile("ld.global.nc.u8 %0, [%1];" : "=h"(x) : "l"(base + lane_offset + static_cast<u64>(imm)));
  return static_cast<u8>(x);
}
// The value of the lane whose number differs in the bits of `distance`.
DEVICE float across(float x, u32 distance) { return __shfl_xor_sync(0xffffffffu, x, distance); }

// Bytes of high:low by the four lowest nibbles of `by`: bits 0 to 2 choose one, with bit 3 its sign is spread over eight bits.
DEVICE u32 permute_bytes(u32 high, u32 low, u32 by) {
  u32 x;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(x) : "r"(low), "r"(high), "r"(by));
  return x;
}
// The order in which look-ups give the eight elements of a word: as they come.
DEVICE u32x4 reorder(u32x4 x) { return x; }
// Four bytes of a table of 16, by nibbles without bit 3; `second` is all ones in the bytes whose code has bit 3.
DEVICE u32 look_up(const u32 (&plane)[4], u32 by, u32 second) {
  const u32 low = permute_bytes(plane[1], plane[0], by), high = permute_bytes(plane[3], plane[2], by);
  return (low & ~second) | (high & second);
}
// Codes lie odd k first in a byte, so pairs take bytes 1 and 0, then 3 and 2, of what was looked up.
DEVICE u32 pair_of(u32 lows, u32 highs, u32 p) { return permute_bytes(highs, lows, p ? 0x6273u : 0x4051u); }
// The eight 16-bit elements of a word's codes, two to a register.
DEVICE void look_up_pairs(u32 word, const u32 (&low)[4], const u32 (&high)[4], u32 (&pairs)[4]) {
  const u32 clear = word & 0x77777777u;
  UNROLL
  for (u32 half = 0; half < 2; half++) {
    const u32 by = clear >> 16 * half;
    // 0x55 stays where bit 3 is clear and is its sign, zero, where it is set: three times that is a whole byte.
    const u32 second = ~(3 * permute_bytes(0x55555555u, 0x55555555u, word >> 16 * half));
    const u32 lows = look_up(low, by, second), highs = look_up(high, by, second);
    pairs[2 * half] = pair_of(lows, highs, 0);
    pairs[2 * half + 1] = pair_of(lows, highs, 1);
  }
}
// The same where bit 3 of a code is the sign and the other bits choose one of eight: one permute per byte of an element, none for low bytes of zero.
template <bool LOWS> DEVICE void look_up_signed_pairs(u32 word, const u32 (&low)[4], const u32 (&high)[4], u32 (&pairs)[4]) {
  const u32 clear = word & 0x77777777u;
  UNROLL
  for (u32 half = 0; half < 2; half++) {
    const u32 by = clear >> 16 * half;
    const u32 plus = 2 * permute_bytes(0x40404040u, 0x40404040u, word >> 16 * half);  // 0x80 where bit 3 is clear
    const u32 highs = (permute_bytes(high[1], high[0], by) | 0x80808080u) ^ plus;
    const u32 lows = LOWS ? permute_bytes(low[1], low[0], by) : 0;
    pairs[2 * half] = pair_of(lows, highs, 0);
    pairs[2 * half + 1] = pair_of(lows, highs, 1);
  }
}

// Two weight rows at a time, each over the whole wave: eight parts of K, of four lanes each. A part of the first row is row p of the matrix instruction, one of
// the second row 8 + (p ^ 2), and the activations of part p are column p: of its sums those count that a part has with its own activations, eight of each row.
// By the 2 a lane has a sum of one row at most, that of the row's part lane_part(0 or 1) / 4.
constexpr u32 PART_LANES = 4;
DEVICE u32 lane_part(u32 r = 0) { return lane_id() ^ 8 * r; }
DEVICE bool has_sum_of_part() { return (lane_id() / 2 ^ lane_id() / 16) % 2 == 0; }
DEVICE bool sum_is_of_second() { return (lane_id() ^ lane_id() / 8) % 2; }
DEVICE float sum_of_part(const Sums& sums) {
  const bool odd = lane_id() / 4 % 2;
  const float first = odd ? sums[1] : sums[0], second = odd ? sums[3] : sums[2];
  return sum_is_of_second() ? second : first;
}
// Add up the parts of `PAIRS` pairs of rows, 1, 2 or 4. A lane gets the sum of row row_of_lane<PAIRS>(); first_of_row says which lane is to use it.
template <u32 PAIRS> DEVICE float sum_of_row(float (&values)[PAIRS]) {
  u32 left = PAIRS;
  UNROLL
  for (u32 bit = 16; bit >= 4; bit /= 2) {  // lanes that differ in it and in what keeps their row and that they count
    const u32 distance = bit + bit / 8;
    const bool upper = lane_id() & bit;
    if (left == 1) {
      values[0] += across(values[0], distance);
      continue;
    }
    left /= 2;
    UNROLL
    for (u32 i = 0; i < left; i++) {
      const float kept = upper ? values[i + left] : values[i], given = upper ? values[i] : values[i + left];
      values[i] = kept + across(given, distance);
    }
  }
  return values[0];
}
template <u32 PAIRS> DEVICE u32 row_of_lane() { return lane_id() / 8 % 4 * PAIRS / 4 * 2 + sum_is_of_second(); }
template <u32 PAIRS> DEVICE bool first_of_row() { return has_sum_of_part() && lane_id() / 4 % (8 / PAIRS) == 0; }

// Loads that are left out where `there` is false, without a branch; what they give then is nothing.
DEVICE void load_words_once_if(bool there, u32 (&to)[4], const u32* base, u32 imm) {
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %5, 0; @p " LOAD_ONCE ".v4.u32 { %0, %1, %2, %3 }, [%4]; }"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "l"(reinterpret_cast<const char*>(base) + imm), "r"(u32{there}));
}
DEVICE void load_words_once_if(bool there, u32 (&to)[2], const u32* base, u32 imm) {
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %3, 0; @p " LOAD_ONCE ".v2.u32 { %0, %1 }, [%2]; }"
               : "=r"(to[0]), "=r"(to[1]) : "l"(reinterpret_cast<const char*>(base) + imm), "r"(u32{there}));
}
DEVICE void load_words_once_if(bool there, u32 (&to)[1], const u32* base, u32 imm) {
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p " LOAD_ONCE ".u32 %0, [%1]; }"
               : "=r"(to[0]) : "l"(reinterpret_cast<const char*>(base) + imm), "r"(u32{there}));
}
template <class T> DEVICE u32x4 load16_if(bool there, const T* base, u32 imm) {
  u32x4 x;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %5, 0; @p ld.global.nc.v4.u32 { %0, %1, %2, %3 }, [%4]; }"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "l"(reinterpret_cast<const char*>(base) + imm), "r"(u32{there}));
  return x;
}
DEVICE float load_one_if(bool there, const float* at) {
  float x;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p ld.global.nc.f32 %0, [%1]; }" : "=f"(x) : "l"(at), "r"(u32{there}));
  return x;
}
DEVICE u8 load_one_if(bool there, const u8* at) {
  u16 x;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p ld.global.nc.u8 %0, [%1]; }" : "=h"(x) : "l"(at), "r"(u32{there}));
  return static_cast<u8>(x);
}
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 1, YTILE = 8, WvPrGrp = 8, A_CHUNK = 16, UNRL = 1;
constexpr u32 GROUP_SIZE = 64;  // K elements that are summed before absmax multiplies
constexpr u32 WORDS = A_CHUNK / 8;    // of a chunk: what one lane loads of a row at once
constexpr u32 VECTORS = sizeof(T) / 2;  // of 16 bytes: the activations of one word
constexpr u32 ROWS = ROWS_OF_LANE;  // every lane works on the same two rows
constexpr u32 K_LANES = WAVE;
static_assert(GROUP_SIZE % (PART_LANES * A_CHUNK) == 0, "a part has one absmax");
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one chunk each
constexpr u32 K_WAVES = 4;       // waves that share the K of a tile

// What the 16 codes stand for, times SCALE and rounded to bf16; DESCALE is 1 / SCALE.
constexpr u32 DESCALE = 0x3f322dfcu;
using Pair = u32;
constexpr u32 COPIES = 32;  // of the table; a lane reads its own
constexpr u32 PAGE = 256;  // bytes from one entry of a copy to the next: a byte of codes is the second byte of where its pair lies
SHARED_AT_LAUNCH u32x4 table[];  // [byte][copy], behind the copies of an entry nothing; what is staged comes after 256 pages

constexpr u32 ENTRY_VECTORS = COPIES * sizeof(Pair) / sizeof(u32x4);  // of 16 bytes: the copies of an entry
constexpr u32 STEP_VECTORS = PAGE / sizeof(u32x4);  // from an entry to the next
constexpr u32 LOW_BYTES[4] = {0x114180b8u, 0x000688d1u, 0xf9b56deau, 0xb8854f22u}, HIGH_BYTES[4] = {0xbfbfbfbfu, 0x00bebebeu, 0x3e3e3e3du, 0x3f3f3f3fu};

// Four bytes in a row at a time: the eight codes of a word. The even element of a byte lies in its high bits.
DEVICE void fill_table() {
  NO_UNROLL
  for (u32 i = thread_id(); i < 256 / 4 * ENTRY_VECTORS; i += WvPrGrp * WAVE) {
    const u32 first = i / ENTRY_VECTORS * 4;
    u32 pairs[4];
    look_up_pairs(first * 0x01010101u + 0x03020100u, LOW_BYTES, HIGH_BYTES, pairs);
    UNROLL
    for (u32 j = 0; j < 4; j++) {
      const u32x4 copies = {pairs[j], pairs[j], pairs[j], pairs[j]};
      table[(first + j) * STEP_VECTORS + i % ENTRY_VECTORS] = copies;
    }
  }
}
// The eight codes of a word as four pairs; `copy` is the byte offset of the lane's copy.
DEVICE void decode(u32 word, u32 copy, Pair (&pairs)[4]) {
  UNROLL
  for (u32 i = 0; i < 4; i++)  // byte i of the word over the lowest byte of `copy`, whose others are zero
    pairs[i] = *reinterpret_cast<const Pair*>(reinterpret_cast<const char*>(table) + permute_bytes(copy, word, 0x5504u + 0x10u * i));
}
DEVICE u32x4 staged_order(u32x4 x) { return x; }

// What is loaded of an absmax, and how it is read.
struct Scale {
  float absmax;
};
struct Scales {
  const float* absmax;
  u32 shift;  // a block is GROUP_SIZE << shift elements

  MEMBER Scale load(u32 group) const {
    const u32 block = group >> shift;
    return {load_one(absmax, block * sizeof(float), 0)};
  }
  // That of a word of codes, counted through the flattened weight.
  MEMBER Scale of_word(u32 word) const { return load(word / (GROUP_SIZE / 8)); }
  MEMBER Scale of_word_if(bool there, u32 word) const {
    const u32 block = word / (GROUP_SIZE / 8) >> shift;
    return {load_one_if(there, absmax + block)};
  }
  MEMBER float value(const Scale& scale) const { return scale.absmax; }
};

struct Tables {
  bool filled = false;

  MEMBER void fill() const {
    fill_table();
  }
  // Every wave comes here once before it multiplies, with loads on their way: filling takes none of their time.
  MEMBER void need() {
    if (filled) return;
    fill();
    barrier();
    filled = true;
  }
};

constexpr u32 SCALES = 1;

// Where a lane finds its rows of the tile, as 32-bit indices, so that every address is one instruction: its codes of the slab at hand and the row's
// first group, counted through the flattened weight.
struct Rows {
  const u32* codes;
  u32 code_lane[Y_TILES][ROWS_OF_LANE];

  // The first word, of the slab at hand, of the row and part whose sum the lane has of pair y.
  MEMBER u32 word_of_sum(u32 y) const { return sum_is_of_second() ? code_lane[y][1] : code_lane[y][0]; }
  MEMBER void skip(u32 slabs) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++)
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        code_lane[y][r] += slabs * (SLAB / 8);
      }
  }
  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 m0, u32 M, u32 K) {
    codes = code_rows;
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        const u32 m = m0 + y * ROWS + r;
        code_lane[y][r] = (m < M ? m : M - 1) * (K / 8) + lane_part(r) * WORDS;
      }
    }
  }
};

// What a lane has of U slabs of its rows.
template <u32 U> struct Trip {
  u32 codes[U][Y_TILES][ROWS_OF_LANE][WORDS];
  Scale scale[U][Y_TILES][SCALES];

  // A trip from where `rows` are.
  template <bool GUARDED> MEMBER void load(const Rows& rows, const Scales& scales, u32 slab, u32 K) {
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          load_words_once(codes[u][y][r], rows.codes + rows.code_lane[y][r], 0, u * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        scale[u][y][0] = scales.of_word(rows.word_of_sum(y) + u * SLAB / 8);
  }

  // A whole trip from where `rows` are, if it is there.
  MEMBER void load_if(bool there, const Rows& rows, const Scales& scales) {
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++) load_words_once_if(there, codes[u][y][r], rows.codes + rows.code_lane[y][r], u * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) scale[u][y][0] = scales.of_word_if(there, rows.word_of_sum(y) + u * SLAB / 8);
  }
};

using Total = float;
constexpr u32 TOTALS = N;
struct Piece { u32x4 vectors[VECTORS]; };  // the activations of one word, in the order of look-ups

// Straight from memory, on their way together with the weights.
template <u32 U> struct FromMemory {
  Piece pieces[U][TOTALS][WORDS];

  MEMBER void land() const {}
  MEMBER Piece piece(u32 j, u32 u, u32 word) const {
    Piece x = pieces[u][j][word];
    UNROLL
    for (u32 v = 0; v < VECTORS; v++) x.vectors[v] = staged_order(x.vectors[v]);
    return x;
  }
};
template <u32 U> using Coming = FromMemory<U>;
struct Act {
  const T* lane[TOTALS];  // what this lane brings of the slab at hand for each tile
  u32 K;

  MEMBER void set(const T* act, u32 act_stride, u32 rows, u32 k) {
    K = k;
    UNROLL
    for (u32 j = 0; j < TOTALS; j++) {
      const u32 wanted = j, n = wanted < rows ? wanted : rows - 1;
      lane[j] = act + static_cast<u64>(n) * act_stride + lane_part() * A_CHUNK;
    }
  }
  MEMBER void skip(u32 slabs) {
    UNROLL
    for (u32 j = 0; j < TOTALS; j++) lane[j] += slabs * SLAB;
  }
  template <u32 U, bool GUARDED> MEMBER FromMemory<U> fetch(u32 slab) const {
    FromMemory<U> x;
    UNROLL
    for (u32 u = 0; u < U; u++) {
      const u32 k = (slab + u) * SLAB + lane_part() * A_CHUNK;
      UNROLL
      for (u32 j = 0; j < TOTALS; j++) {
        const bool wanted = !GUARDED || k < K;
        UNROLL
        for (u32 v = 0; v < WORDS * VECTORS; v++) {
          u32x4& vector = x.pieces[u][j][v / VECTORS].vectors[v % VECTORS];
          vector = {};
          if (wanted) vector = load16(lane[j], 0, u * SLAB * sizeof(T) + v * sizeof(u32x4));
        }
      }
    }
    return x;
  }
  // Of whole slabs from where the lane is, if they are there.
  template <u32 U> MEMBER FromMemory<U> fetch_if(bool there) const {
    FromMemory<U> x;
    UNROLL
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 j = 0; j < TOTALS; j++)
        UNROLL
        for (u32 v = 0; v < WORDS * VECTORS; v++) x.pieces[u][j][v / VECTORS].vectors[v % VECTORS] = load16_if(there, lane[j], u * SLAB * sizeof(T) + v * sizeof(u32x4));
    return x;
  }
};

// total += weights * activations over the U slabs of a trip.
template <u32 U>
DEVICE void multiply_trip(Total (&total)[TOTALS][Y_TILES], const Trip<U>& trip, const Scales& scales, const Coming<U>& act) {
  const u32 copy = lane_id() % COPIES * sizeof(Pair);
  const bool counts = has_sum_of_part();
  UNROLL
  for (u32 u = 0; u < U; u++)
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      Sums sums = {};
      UNROLL
      for (u32 word = 0; word < WORDS; word++) {
        Pair pairs[ROWS_OF_LANE][4];
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++) decode(trip.codes[u][y][r][word], copy, pairs[r]);
        sums = multiply_rows<T>(pairs, act.piece(0, u, word).vectors[0], sums);
      }
      const float scale = scales.value(trip.scale[u][y][0]), sum = sum_of_part(sums);
      if (counts) total[0][y] = mul_add(scale, sum, total[0][y]);
    }
}

// What U slabs of the rows from slab `slab` on need, and what becomes of it: everything is on its way before the first product.
template <u32 U> struct Brought {
  Coming<U> act;
  Trip<U> trip;

  template <bool GUARDED> MEMBER void bring(const Rows& rows, const Scales& scales, const Act& from, u32 slab, u32 origin, u32 K) {
    act = from.template fetch<U, GUARDED>(slab - origin);
    trip.template load<GUARDED>(rows, scales, slab, K);
    issue_first();
  }
  // A whole trip from where `rows` and `from` are, if it is there.
  MEMBER void bring_if(bool there, const Rows& rows, const Scales& scales, const Act& from) {
    act = from.template fetch_if<U>(there);
    trip.load_if(there, rows, scales);
  }
  MEMBER void multiply(Total (&total)[TOTALS][Y_TILES], const Scales& scales) const {
    act.land();
    multiply_trip(total, trip, scales, act);
  }
};

// total += rows * activations over slabs first_slab to end_slab of the rows, which end at K; `act` begins with slab `origin`.
// Of these slabs a wave takes every K_WAVES-th trip.
DEVICE void accumulate(Total (&total)[TOTALS][Y_TILES], Rows at, const Scales& scales, Act act, Tables& tables, u32 k_wave, u32 origin, u32 first_slab,
                       u32 end_slab, u32 K) {
  const u32 whole = end_slab;  // K is whole groups, and those are whole slabs
  u32 slab = first_slab + k_wave * UNRL;
  // Two trips by turns: one is on its way while the other is multiplied.
  constexpr u32 STEP = K_WAVES * UNRL;
  Brought<UNRL> even, odd;
  const auto skip = [&](u32 slabs) {
    slab += slabs;
    at.skip(slabs);
    act.skip(slabs);
  };
  at.skip(slab);
  act.skip(slab - origin);
  even.bring_if(slab + UNRL <= whole, at, scales, act);
  tables.need();  // the first trip is on its way meanwhile
  NO_UNROLL
  while (slab + UNRL <= whole) {
    skip(STEP);
    odd.bring_if(slab + UNRL <= whole, at, scales, act);
    even.multiply(total, scales);
    if (slab + UNRL > whole) break;
    skip(STEP);
    even.bring_if(slab + UNRL <= whole, at, scales, act);
    odd.multiply(total, scales);
  }
}

constexpr u32 GROUP_ROWS = WvPrGrp / K_WAVES * YTILE;  // rows of a work-group's tile
constexpr u32 ADDENDS = N;
SHARED float exchanged[2][WvPrGrp * YTILE * ADDENDS];  // [row of a wave][addend]; two, so that one barrier per tile is enough

// Bring a wave's sums to LDS.
DEVICE void exchange(Total (&total)[TOTALS][Y_TILES], u32 round) {
  const u32 wave = wave_id();  // lanes meet in it, so not in the branch below
  const float value = sum_of_row(total[0]);
  if (first_of_row<Y_TILES>()) exchanged[round][wave * YTILE + row_of_lane<Y_TILES>()] = value;
}

// Add what the waves brought for the tile that begins at row m0, add bias, round once and store the rows that exist.
DEVICE void finish(u32 round, const T* bias, u32 bias_stride, T* out, u32 m0, u32 M, u32 rows) {
  NO_UNROLL
  for (u32 i = thread_id(); i < GROUP_ROWS * rows; i += WvPrGrp * WAVE) {
    const u32 n = i / GROUP_ROWS, row = i % GROUP_ROWS, m = m0 + row;
    if (m >= M) continue;
    const float* from = exchanged[round] + (row / YTILE * K_WAVES * YTILE + row % YTILE) * ADDENDS;
    float value = 0;
    UNROLL
    for (u32 wave = 0; wave < K_WAVES; wave++, from += YTILE * ADDENDS)
      value += from[n];
    if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
    out[static_cast<u64>(n) * M + m] = round_to<T>(value);
  }
}

// codes [M, K / 8] words; absmax of the blocks of the flattened weight, plain or with absmax_codes, absmax_table [256] and absmax_offset [1]; act [N, K] of
// `all_rows` rows; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous. A block is GROUP_SIZE << block_shift elements.
GLOBAL void gemm_4bit_bf16_N1_THRDS32_YTILE8_WvPrGrp8_K_WAVES4_A_CHUNK16_UNRL1_GrpsPerCU1_GROUP_SIZE64_TABLEpages_COPIES32_STAGINGglobal_K_PARTS8_AHEAD(
    const u32* codes, const f32* absmax, const u8* absmax_codes, const f32* absmax_table, const f32* absmax_offset, u32 block_shift, const T* act, const T* bias,
    T* out, u32 M, u32 K, u32 all_rows, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 slabs = (K + SLAB - 1) / SLAB;
  const u32 wave = wave_id();
  u32 tile = group_id(), rows = all_rows;
  if (all_rows > N) {  // a division takes as long as a way to L2
    // Groups side by side make the same output features for N activation rows each, so that they read the same weights.
    const u32 passes = (all_rows + N - 1) / N, row0 = tile % passes * N;
    tile /= passes;
    groups /= passes;
    rows = all_rows - row0 < N ? all_rows - row0 : N;
    act += static_cast<u64>(row0) * act_stride;
    if (bias) bias += static_cast<u64>(row0) * bias_stride;
    out += static_cast<u64>(row0) * M;
  }
  const Scales scales = {absmax, block_shift};
  Act at;
  at.set(act, act_stride, rows, K);
  Tables tables;

  u32 round = 0;
  for (; tile * GROUP_ROWS < M; tile += groups) {
    const u32 m0 = tile * GROUP_ROWS + wave / K_WAVES * YTILE;
    Rows weights;
    weights.set(codes, m0, M, K);
    Total total[TOTALS][Y_TILES] = {};
    accumulate(total, weights, scales, at, tables, wave % K_WAVES, 0, 0, m0 < M ? slabs : 0, K);  // a wave without rows only helps to fill tables
    UNROLL
    for (u32 j = 0; j < TOTALS; j++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        total[j][y] = multiplied(total[j][y], as_float(DESCALE));
    exchange(total, round);
    barrier();
    finish(round, bias, bias_stride, out, tile * GROUP_ROWS, M, rows);
    round ^= 1;
  }
}
