// dequantize_w4a16_bf16_THRDS32_WvPrGrp4_UNRL2_GROUP_SIZE128   made by kgen from dequantize_w4a16.hip.jinja; edit the template, not this file
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

// ---- prelude: tiles of 4-bit weights; NVIDIA sm_90 ----
// Of a fragment a lane holds LANE_PIECES pieces of LANE_ROWS rows; K_PARTS lanes share a row.
constexpr u32 LANE_ROWS = 2, LANE_PIECES = 1, K_PARTS = 4;
DEVICE u32 fragment_row(u32 r) { return lane_id() / 4 + 8 * r; }
DEVICE u32 fragment_part() { return lane_id() % 4; }
DEVICE void set_piece(Fragment& f, u32 r, u32, const u32 (&pairs)[4]) {
  UNROLL
  for (u32 i = 0; i < 4; i++) f.row[r][i] = pairs[i];
}

// `WORDS` 32-bit words at base + lane_offset (bytes), which other groups read soon.
template <class T> DEVICE void load_words(u32 (&to)[4], const T* base, u32 lane_offset) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset;
  asm volatile("ld.global.nc.v4.u32 { %0, %1, %2, %3 }, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "l"(at));
}
template <class T> DEVICE void load_words(u32 (&to)[2], const T* base, u32 lane_offset) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset;
  asm volatile("ld.global.nc.v2.u32 { %0, %1 }, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(at));
}
template <class T> DEVICE void load_words(u32 (&to)[1], const T* base, u32 lane_offset) {
  const char* at = reinterpret_cast<const char*>(base) + lane_offset;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(to[0]) : "l"(at));
}
// 16 bytes from `from` into `to` without passing registers, both each lane's own. `staged` before the barrier behind which others read.
DEVICE void stage16(const void* from, u32x4* to) {
  const u32 at = static_cast<u32>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}
DEVICE void staged() { asm volatile("cp.async.wait_all;" ::: "memory"); }
// An element twice, for both halves of a register.
template <class T> DEVICE u32 twice(T x) { return x.bits * 0x00010001u; }
template <class T> DEVICE u32 mul_pairs(u32 a, u32 b);
template <> MEMBER u32 mul_pairs<bf16>(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
template <> MEMBER u32 mul_pairs<fp16>(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// Four bytes that stay together.
DEVICE u32 together(u32 x) { return x; }
// Byte `b` of a word as a number: the lowest bits of the mantissa of 2^23.
DEVICE float byte_f32(u32 x, u32 b) { return as_float(__byte_perm(x, 0x4b000000u, 0x7440u | b)) - 8388608.0f; }
// Rounded to nearest even.
DEVICE u32 pack_nearest(float low, float high, bf16) { return pack_finite(low, high, bf16{}); }
// ---- end of prelude ----

// ---- prelude: quads of lanes, stores; NVIDIA sm_90 ----
// The value of the lane whose number differs in the bits of MASK, 1 to 3: one of the same quad, four lanes from a multiple of four on. All are here.
template <u32 MASK> DEVICE u32 from_quad(u32 x) { return __shfl_xor_sync(0xffffffffu, x, MASK); }
// 16 bytes to base + lane_offset (bytes) of memory, for who reads them next: they stay in L2.
template <class T> DEVICE void store16(T* base, u32 lane_offset, u32x4 value) {
  *reinterpret_cast<u32x4*>(reinterpret_cast<char*>(base) + lane_offset) = value;
}
// ---- end of prelude ----

// M output features (weight rows), K reduction.
using T = bf16;
constexpr u32 WvPrGrp = 4, UNRL = 2;
constexpr u32 GROUP_SIZE = 128;  // K elements that share a scale
constexpr u32 CHUNK = 32;  // codes that a lane loads at once: 16 bytes, four words
constexpr u32 QUAD_K = 4 * CHUNK, QUAD_GROUPS = QUAD_K / GROUP_SIZE;  // codes of the four lanes of a quad, and the scales of those
constexpr u32 QUADS = WvPrGrp * WAVE / 4;  // of a work-group

// What a group's scale and zero point make of a code, two codes at a time in the element type. OFFSET + q is a code with the right exponent in front;
// OFFSET and z leave together in the element type.
struct Group {
  u32 scale, offset;

  MEMBER void set(T scale_of_group, u32 z) {
    scale = twice(scale_of_group);
    offset = 0x43004300u + z * 0x00010001u;  // 128 + z
  }
};
DEVICE void weights_of(u32 word, const Group& group, u32 (&pairs)[4]) {
  UNROLL
  for (u32 p = 0; p < 4; p++) {
    const u32 difference = sub_pairs<T>(and_or(word >> 4 * p, 0x000f000fu, 0x43004300u), group.offset);
    pairs[p] = mul_pairs<T>(difference, group.scale);
  }
}

// Each lane of a quad has four words, one after the other in K; afterwards lane l has word l of each lane: what the quad stores at once lies side by side.
DEVICE void exchange(u32x4& words) {
  const bool odd = lane_id() % 2, upper = lane_id() / 2 % 2;
  UNROLL
  for (u32 i = 0; i < 4; i += 2) {
    const u32 low = words[i], high = words[i + 1], got = from_quad<1>(odd ? low : high);
    words[i] = odd ? got : low;
    words[i + 1] = odd ? high : got;
  }
  UNROLL
  for (u32 i = 0; i < 2; i++) {
    const u32 low = words[i], high = words[i + 2], got = from_quad<2>(upper ? low : high);
    words[i] = upper ? got : low;
    words[i + 2] = upper ? high : got;
  }
}

// What a lane has on its way of the codes of one quad.
struct Piece {
  u32x4 words;
  T scale[QUAD_GROUPS];
};

// codes [M, K / 8] words, scales [M, K / GROUP_SIZE], zeros [ceil(M / 8), K / GROUP_SIZE] words or null; strides in elements (words) of rows.
// out [M, K], contiguous. Quads of lanes go over the rows one after the other, 128 codes each; K may end inside of a row's last one.
GLOBAL void dequantize_w4a16_bf16_THRDS32_WvPrGrp4_UNRL2_GROUP_SIZE128(
    const u32* codes, const T* scales, const u32* zeros, T* out, u32 M, u32 K, u32 code_stride, u32 scale_stride, u32 zero_stride) {
  const u32 of_row = (K + QUAD_K - 1) / QUAD_K, all = M * of_row;
  const u32 first = group_id() * (UNRL * QUADS) + thread_id() / 4, part = thread_id() % 4;
  u32 row[UNRL], k0[UNRL];
  Piece pieces[UNRL];
  UNROLL
  for (u32 u = 0; u < UNRL; u++) {
    const u32 quad = first + u * QUADS < all ? first + u * QUADS : all - 1;  // beyond: the last one again, and the same bits in its place
    row[u] = quad / of_row;
    k0[u] = (quad - row[u] * of_row) * QUAD_K;
    const u32* const words = codes + static_cast<u64>(row[u]) * code_stride;
    pieces[u].words = load16_once(words, k0[u] / 2 + part * sizeof(u32x4));
    UNROLL
    for (u32 g = 0; g < QUAD_GROUPS; g++) {
      const u32 group = k0[u] / GROUP_SIZE;
      pieces[u].scale[g] = load_one(scales + static_cast<u64>(row[u]) * scale_stride, group * sizeof(T), 0);
    }
  }
  issue_first();
  UNROLL
  for (u32 u = 0; u < UNRL; u++) {
    exchange(pieces[u].words);
    Group groups[QUAD_GROUPS];
    UNROLL
    for (u32 g = 0; g < QUAD_GROUPS; g++) groups[g].set(pieces[u].scale[g], 8);
    T* const to = out + static_cast<u64>(row[u]) * K;
    UNROLL
    for (u32 j = 0; j < 4; j++) {
      u32 pairs[4];
      weights_of(pieces[u].words[j], groups[j * CHUNK / GROUP_SIZE], pairs);
      const u32 k = k0[u] + j * CHUNK;
      store16(to, k * sizeof(T) + part * sizeof(u32x4), u32x4{pairs[0], pairs[1], pairs[2], pairs[3]});
    }
  }
}
