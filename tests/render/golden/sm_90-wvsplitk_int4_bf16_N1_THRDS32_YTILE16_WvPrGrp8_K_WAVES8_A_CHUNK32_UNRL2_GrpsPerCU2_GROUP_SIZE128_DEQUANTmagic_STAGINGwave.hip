// wvsplitk_int4_bf16_N1_THRDS32_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL2_GrpsPerCU2_GROUP_SIZE128_DEQUANTmagic_STAGINGwave   made by kgen from wvsplitk_int4.hip.jinja; edit the template, not this file
// ---- prelude: NVIDIA sm_90, wave32 ----
#define GLOBAL extern "C" __global__ __launch_bounds__(256, 2)
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

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 1, YTILE = 16, WvPrGrp = 8, A_CHUNK = 32, UNRL = 2;
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

// Pair p of a word as OFFSET + q, both halves.
DEVICE u32 offset_pair(u32 word, u32 p) {
  return and_or(word >> 4 * p, 0x000f000fu, 0x43004300u);
}
// magic: the offset and the zero point are subtracted in the element type, two at a time.
DEVICE void decode(u32 word, u32 zero, u32 (&pairs)[4]) {
  UNROLL
  for (u32 p = 0; p < 4; p++) pairs[p] = sub_pairs<T>(offset_pair(word, p), 0x43004300u + zero * 0x00010001u);
}

// LDS holds activations in slabs: SLAB_PIECES pieces of 16 bytes, word by word of a chunk, so that the lanes of a row read side by side.
constexpr u32 SLAB_PIECES = WORDS * N * K_LANES;
DEVICE u32 slot_in_slab(u32 word, u32 n, u32 part) { return (word * N + n) * K_LANES + part; }

// Where a lane finds its rows of the tile: elements (words) from bases that are the same for all. 32 bits, and every address is one instruction.
struct Rows {
  const u32* codes;
  const T* scales;
  u32 code_lane[Y_TILES][ROWS_OF_LANE], scale_lane[Y_TILES][ROWS_OF_LANE];

  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 code_stride, const T* scale_rows, u32 scale_stride, const u32* zero_rows, u32 zero_stride, u32 m0, u32 M) {
    codes = code_rows;
    scales = scale_rows;
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
      UNROLL
      for (u32 r = 0; r < ROWS_OF_LANE; r++) {
        const u32 row = lane_row(r) < M - 1 - m ? lane_row(r) : M - 1 - m;
        code_lane[y][r] = (m + row) * code_stride;
        scale_lane[y][r] = (m + row) * scale_stride;
      }
    }
  }
};

constexpr u32 SCALES = ROWS_OF_LANE;
DEVICE u32 scale_of_sum(u32 i) { return sum_row(i); }
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
    const u32 word = slab * (SLAB / 8) + lane_part() * WORDS;
    UNROLL
    for (u32 u = 0; u < U && u < count; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++)
          load_words_once(codes[u][y][r], rows.codes + (rows.code_lane[y][r] + word), 0, u * K_WAVES * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U && u < count; u++) {
      const u32 first = (slab + u * K_WAVES) * GROUPS;
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) {
        UNROLL
        for (u32 j = 0; j < SCALES; j++) {
          u32 group = first + scale_group(j);
          scale[u][y][j] = load_one(rows.scales + (rows.scale_lane[y][scale_row(j)] + group), 0, 0);
        }
      }
    }
  }
};

using Total = Sums;
constexpr u32 TOTALS = N_TILES;

// Activations of U slabs in LDS of the wave's own: the lanes fetch each piece once, and land it when the weights are on their way.
template <u32 U> struct LandedAct {
  static constexpr u32 PIECES = U * SLAB_PIECES, SHARE = (PIECES + WAVE - 1) / WAVE;
  u32x4 fetched[SHARE];
  u32x4* mine;
  u32 count;  // slabs that there are
  u32 lane[N_TILES];

  MEMBER void land() const {
    wave_barrier();  // all lanes are done with the last trip
    UNROLL
    for (u32 i = 0; i < SHARE; i++)
      if (i * WAVE + lane_id() < PIECES) store16_lds(mine, (i * WAVE + lane_id()) * sizeof(u32x4), fetched[i]);
    wave_barrier();
  }
  MEMBER u32x4 piece(u32 j, u32 u, u32 word) const {
    u32x4 x = load16_lds(mine, lane[j], (u * SLAB_PIECES + word * N * K_LANES) * sizeof(u32x4));
    return x;
  }
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
      const u32 slot = i * WAVE + lane_id(), part = slot % K_LANES, n = slot / K_LANES % N, word = slot / (N * K_LANES) % WORDS;
      const u32 u = slot / SLAB_PIECES, k = (slab + u * K_WAVES) * SLAB + part * A_CHUNK + word * PIECE;
      x.fetched[i] = {};
      if (slot < x.PIECES && u < count) x.fetched[i] = load16(act + (n * act_stride + k), 0);
    }
    UNROLL
    for (u32 j = 0; j < N_TILES; j++) {
      const u32 column = j * COLUMNS + act_column(), n = column / GROUPS < N ? column / GROUPS : N - 1;
      x.lane[j] = (n * K_LANES + lane_part()) * sizeof(u32x4);
    }
    return x;
  }
};

// total += weights * activations over the U slabs of a trip.
template <u32 U, class Act> DEVICE void multiply_trip(Total (&total)[TOTALS][Y_TILES], const Trip<U>& trip, const Act& act) {
  UNROLL
  for (u32 u = 0; u < U && u < act.count; u++) {
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
          decode(trip.codes[u][y][r][word], 8, pairs[y][r]);
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

// Add what the waves brought for the tile that begins at row m0, add bias, round once and store the rows that exist.
DEVICE void finish(u32 round, const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  NO_UNROLL
  for (u32 i = thread_id(); i < GROUP_ROWS * N; i += WvPrGrp * WAVE) {
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

// codes [M, K / 8] words, scales [M, K / GROUP_SIZE], zeros [ceil(M / 8), K / GROUP_SIZE] words or null, act [N, K]; strides in elements (words)
// of rows. bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_int4_bf16_N1_THRDS32_YTILE16_WvPrGrp8_K_WAVES8_A_CHUNK32_UNRL2_GrpsPerCU2_GROUP_SIZE128_DEQUANTmagic_STAGINGwave(
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
