// dequantize_w4a16_bf16_THRDS32_WvPrGrp4_UNRL2_GROUP_SIZE64_HAS_ZP   made by kgen from dequantize_w4a16.hip.jinja; edit the template, not this file
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

// ---- prelude: 4-bit weights; AMD gfx1151 ----
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

// sum + the two products of a pair of weights with a pair of activations.
template <class T> DEVICE float multiply_pair(u32 pair, u32 act, float sum) {
  return dot2(__builtin_bit_cast(x2<T>, pair), __builtin_bit_cast(x2<T>, act), sum);
}
// The same by multiplication in fp32.
template <class T> DEVICE float multiply_widened(u32 pair, u32 act, float sum) {
  sum += low_f32(pair, T{}) * low_f32(act, T{});
  return sum + high_f32(pair, T{}) * high_f32(act, T{});
}
// Sum of the 8 elements of a piece.
template <class T> DEVICE float sum_of_piece(u32x4 piece, float sum) {
  const x2<T> ones = {static_cast<T>(1.0f), static_cast<T>(1.0f)};
  UNROLL
  for (u32 i = 0; i < 4; i++) {
    const u32 a = piece[i];
    sum = dot2(__builtin_bit_cast(x2<T>, a), ones, sum);
  }
  return sum;
}
// ---- end of prelude ----

// ---- prelude: tiles of 4-bit weights; AMD gfx1151 ----
// Of a fragment a lane holds LANE_PIECES pieces of LANE_ROWS rows; K_PARTS lanes share a row.
constexpr u32 LANE_ROWS = 1, LANE_PIECES = 4, K_PARTS = 1;
DEVICE u32 fragment_row(u32) { return lane_id() % 16; }
DEVICE u32 fragment_part() { return 0; }
DEVICE void set_piece(Fragment& f, u32, u32 j, const u32 (&pairs)[4]) {
  UNROLL
  for (u32 i = 0; i < 4; i++) f.half[j / 2][j % 2 * 4 + i] = pairs[i];
}

// `WORDS` 32-bit words at base + lane_offset (bytes), which other groups read soon.
template <u32 WORDS, class T> DEVICE void load_words(u32 (&to)[WORDS], const T* base, u32 lane_offset) {
  using Words = u32 __attribute__((ext_vector_type(WORDS)));
  const Words words = *reinterpret_cast<const Words*>(reinterpret_cast<const char*>(base) + lane_offset);
  UNROLL
  for (u32 i = 0; i < WORDS; i++) to[i] = words[i];
}
// An element twice, for both halves of a register.
template <class T> DEVICE u32 twice(T x) { return __builtin_bit_cast(u16, x) * 0x00010001u; }
template <class T> DEVICE u32 mul_pairs(u32 a, u32 b) {
  return __builtin_bit_cast(u32, __builtin_bit_cast(x2<T>, a) * __builtin_bit_cast(x2<T>, b));
}
// Four bytes that stay together: else the compiler takes each out of the word by itself.
DEVICE u32 together(u32 x) {
  asm("" : "+v"(x));
  return x;
}
// Byte `b` of a word as a number.
DEVICE float byte_f32(u32 x, u32 b) { return static_cast<float>(x >> 8 * b & 0xffu); }
// Rounded to nearest even, for numbers that are not NaN.
DEVICE u32 pack_nearest(float low, float high, bf16) {
  const u32 a = __builtin_bit_cast(u32, low), b = __builtin_bit_cast(u32, high);
  const u32 upper = b + 0x7fffu + (b >> 16 & 1), lower = a + 0x7fffu + (a >> 16 & 1);
  return __builtin_amdgcn_perm(upper, lower, 0x07060302u);
}
// ---- end of prelude ----

// ---- prelude: quads of lanes, stores; AMD gfx1151 ----
// The value of the lane whose number differs in the bits of MASK, 1 to 3: one of the same quad, four lanes from a multiple of four on. All are here.
template <u32 MASK> DEVICE u32 from_quad(u32 x) {
  constexpr u32 ORDER = MASK | (1 ^ MASK) << 2 | (2 ^ MASK) << 4 | (3 ^ MASK) << 6;  // which lane of the quad each one reads
  return __builtin_amdgcn_update_dpp(0, x, ORDER, 0xf, 0xf, true);
}
// 16 bytes to base + lane_offset (bytes) of memory, for who reads them next: they stay in the caches.
template <class T> DEVICE void store16(T* base, u32 lane_offset, u32x4 value) {
  *reinterpret_cast<u32x4*>(reinterpret_cast<char*>(base) + lane_offset) = value;
}
// ---- end of prelude ----

// M output features (weight rows), K reduction.
using T = bf16;
constexpr u32 WvPrGrp = 4, UNRL = 2;
constexpr u32 GROUP_SIZE = 64;  // K elements that share a scale and a zero point
constexpr u32 CHUNK = 32;  // codes that a lane loads at once: 16 bytes, four words
constexpr u32 QUAD_K = 4 * CHUNK, QUAD_GROUPS = QUAD_K / GROUP_SIZE;  // codes of the four lanes of a quad, and the scales of those
constexpr u32 QUADS = WvPrGrp * WAVE / 4;  // of a work-group

// What a group's scale and zero point make of a code, in fp32. The difference first, which is exact, and so is its product with a scale of 8 bits:
// one rounding ends it. q * scale - z * scale would have the same value, but no sign where q is z, and no value where z * scale is too large.
struct Group {
  float scale, zero;

  MEMBER void set(T scale_of_group, u32 z) {
    scale = to_f32(scale_of_group);
    zero = static_cast<float>(together(z));  // of any size, or the compiler would subtract whole numbers first: an instruction more per weight
  }
};
DEVICE void weights_of(u32 word, const Group& group, u32 (&pairs)[4]) {
  // Codes 0, 4, 1, 5 of the word as bytes, and 2, 6, 3, 7.
  const u32 codes[2] = {together(word & 0x0f0f0f0fu), together(word >> 4 & 0x0f0f0f0fu)};
  UNROLL
  for (u32 p = 0; p < 4; p++) {
    const float low = (byte_f32(codes[p % 2], p / 2) - group.zero) * group.scale;
    const float high = (byte_f32(codes[p % 2], p / 2 + 2) - group.zero) * group.scale;
    pairs[p] = pack_nearest(low, high, T{});
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
  u32 zero[QUAD_GROUPS];
};

// codes [M, K / 8] words, scales [M, K / GROUP_SIZE], zeros [ceil(M / 8), K / GROUP_SIZE] words or null; strides in elements (words) of rows.
// out [M, K], contiguous. Quads of lanes go over the rows one after the other, 128 codes each; K may end inside of a row's last one.
GLOBAL void dequantize_w4a16_bf16_THRDS32_WvPrGrp4_UNRL2_GROUP_SIZE64_HAS_ZP(
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
    const u32 k = k0[u] + part * CHUNK < K ? k0[u] + part * CHUNK : 0;  // beyond K: the row's start, which is not stored
    pieces[u].words = load16_once(words, k / 2);
    UNROLL
    for (u32 g = 0; g < QUAD_GROUPS; g++) {
      const u32 k_group = k0[u] + g * GROUP_SIZE < K ? k0[u] + g * GROUP_SIZE : 0, group = k_group / GROUP_SIZE;
      pieces[u].scale[g] = load_one(scales + static_cast<u64>(row[u]) * scale_stride, group * sizeof(T), 0);
      pieces[u].zero[g] = load_one(zeros + static_cast<u64>(row[u] / 8) * zero_stride, group * sizeof(u32), 0);
    }
  }
  issue_first();
  UNROLL
  for (u32 u = 0; u < UNRL; u++) {
    exchange(pieces[u].words);
    Group groups[QUAD_GROUPS];
    UNROLL
    for (u32 g = 0; g < QUAD_GROUPS; g++) groups[g].set(pieces[u].scale[g], pieces[u].zero[g] >> row[u] % 8 * 4 & 15);
    T* const to = out + static_cast<u64>(row[u]) * K;
    UNROLL
    for (u32 j = 0; j < 4; j++) {
      u32 pairs[4];
      weights_of(pieces[u].words[j], groups[j * CHUNK / GROUP_SIZE], pairs);
      const u32 k = k0[u] + j * CHUNK;
      if (k < K) store16(to, k * sizeof(T) + part * sizeof(u32x4), u32x4{pairs[0], pairs[1], pairs[2], pairs[3]});
    }
  }
}
