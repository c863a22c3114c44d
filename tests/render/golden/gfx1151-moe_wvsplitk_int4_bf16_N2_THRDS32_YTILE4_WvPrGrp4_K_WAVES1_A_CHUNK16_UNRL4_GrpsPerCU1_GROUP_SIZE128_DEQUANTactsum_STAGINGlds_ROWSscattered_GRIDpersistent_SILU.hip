// moe_wvsplitk_int4_bf16_N2_THRDS32_YTILE4_WvPrGrp4_K_WAVES1_A_CHUNK16_UNRL4_GrpsPerCU1_GROUP_SIZE128_DEQUANTactsum_STAGINGlds_ROWSscattered_GRIDpersistent_SILU   made by kgen from moe_wvsplitk_int4.hip.jinja; edit the template, not this file
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

// ---- prelude: choices and activation functions; AMD gfx1151 ----
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

// M output features of an expert, N slots of a block, K reduction.
using T = bf16;
constexpr u32 N = 2, YTILE = 4, WvPrGrp = 4, A_CHUNK = 16, UNRL = 4;
constexpr u32 GROUP_SIZE = 128;  // K elements that share a scale
constexpr u32 WORDS = A_CHUNK / 8;    // of a chunk: what one lane loads of a row at once
constexpr u32 PIECE = 8;              // activations of one word: 16 bytes
constexpr u32 OFFSET = 128;  // what the exponent trick adds to a code
constexpr u32 ROWS = 1, ROWS_OF_LANE = 1;  // every lane works on the same row
constexpr u32 K_LANES = WAVE;
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one chunk each

// Pair p of a word as OFFSET + q, both halves.
DEVICE u32 offset_pair(u32 word, u32 p) {
  return and_or(word >> 4 * p, 0x000f000fu, 0x43004300u);
}
// actsum: nothing is subtracted from the weights; OFFSET + zero times the sum of the activations is taken off the sum of a chunk.
DEVICE void decode(u32 word, u32, u32 (&pairs)[4]) {
  UNROLL
  for (u32 p = 0; p < 4; p++) pairs[p] = offset_pair(word, p);
}

// LDS holds activations in slabs: SLAB_PIECES pieces of 16 bytes, word by word of a chunk, so that the lanes of a row read side by side.
constexpr u32 SLAB_PIECES = WORDS * N * K_LANES;
DEVICE u32 slot_in_slab(u32 word, u32 n, u32 part) { return (word * N + n) * K_LANES + part; }
DEVICE u32 lane_part() { return lane_id(); }

// Where a lane finds the rows of its tile: for each row a base that is the same for the whole wave, and this lane's byte offset on top.
struct Rows {
  const u32* codes[Y_TILES];
  const T* scales[Y_TILES];

  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 code_stride, const T* scale_rows, u32 scale_stride, const u32* zero_rows, u32 zero_stride, u32 m0, u32 M) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 half = y < Y_TILES / 2 ? 0 : M, first = m0 + y % (Y_TILES / 2) * ROWS;  // the second M rows belong to the first M, one to one
      const u32 m = half + (first < M ? first : M - 1);
      codes[y] = code_rows + static_cast<u64>(m) * code_stride;
      scales[y] = scale_rows + static_cast<u64>(m) * scale_stride;
    }
  }
};

// What a lane has of U slabs of its rows.
template <u32 U> struct Trip {
  u32 codes[U][Y_TILES][ROWS_OF_LANE][WORDS];
  T scale[U][Y_TILES][1];

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
          load_words_once(codes[u][y][r], rows.codes[y], k / 2, u * SLAB / 2);
    UNROLL
    for (u32 u = 0; u < U; u++) {
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) {
        scale[u][y][0] = load_one(rows.scales[y], k / GROUP_SIZE * sizeof(T), u * SLAB / GROUP_SIZE * sizeof(T));
      }
    }
  }
};

using Total = float;
constexpr u32 TOTALS = N;

// Activations of a wave's slabs, from LDS.
struct Staged {
  const u32x4* pieces;
  const float* sums;  // of every chunk: [slab][n][part]
  // Of U slabs from `slab` on: read when they are needed.
  template <u32 U> MEMBER Staged fetch(u32 slab) const {
    Staged x = *this;
    x.pieces += slab * SLAB_PIECES;
    x.sums += slab * (N * K_LANES);
    return x;
  }
  MEMBER void land() const {}

  MEMBER u32x4 piece(u32 n, u32 u, u32 word) const {
    return load16_lds(pieces, lane_id() * sizeof(u32x4), (u * SLAB_PIECES + slot_in_slab(word, n, 0)) * sizeof(u32x4));
  }
  MEMBER float sum(u32 n, u32 u) const { return sums[(u * N + n) * K_LANES + lane_id()]; }
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
          decode(trip.codes[u][y][r][word], 8, pairs[y][r]);
      UNROLL
      for (u32 i = 0; i < 4; i++)
        UNROLL
        for (u32 n = 0; n < N; n++)
          UNROLL
          for (u32 y = 0; y < YTILE; y++) part[n][y] = multiply_pair<T>(pairs[y][0][i], x[n][i], part[n][y]);
    }
    UNROLL
    for (u32 j = 0; j < TOTALS; j++) {
      const float act_sum = act.sum(j, u);
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++) {
        const float scale = to_f32(trip.scale[u][y][0]);
        const float zero = OFFSET + 8.0f;
        total[j][y] = mul_add(scale, mul_add(-zero, act_sum, part[j][y]), total[j][y]);
      }
    }
  }
}

constexpr u32 GROUP_ROWS = WvPrGrp * YTILE;  // rows of a work-group's tile
constexpr u32 OUT_ROWS = YTILE / 2;  // outputs of a wave: its rows are gates, then what they gate
constexpr u32 GROUP_OUT = GROUP_ROWS / YTILE * OUT_ROWS;
constexpr u32 THREADS = WvPrGrp * WAVE;
constexpr u32 K_WAVES = 1;
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
      for (u32 j = 0; j < 1; j++) trip.scale[u][y][j] = one.scale[0][y][j];
    }
  }
}

DEVICE float silu(float x) { return x * fast_rcp(1.0f + fast_exp2(-1.44269504f * x)); }

// Bring `rows` rows of activations to LDS, one after the other, N at a time side by side; each fills whole trips, zeros beyond K.
// piece_of(row, n, k): eight elements.
constexpr u32 AT_ONCE = 2;  // loads in flight of a work-item
template <class PieceOf> DEVICE void stage_rows(u32x4* staged, float* sums, u32 rows, u32 trips, u32 K, PieceOf piece_of) {
  const u32 chunks = trips * (STEP / A_CHUNK), all = rows * chunks;
  NO_UNROLL
  for (u32 n = 0; n < N; n++)
    NO_UNROLL
    for (u32 i = thread_id(); i < all; i += THREADS) {
      const u32 row = i / chunks, slab = i / K_LANES, part = i % K_LANES, k = (i - row * chunks) * A_CHUNK;
      u32x4 x[WORDS] = {};
      if (k < K) {
        UNROLL
        for (u32 word = 0; word < WORDS; word++) x[word] = piece_of(row, n, k + word * PIECE);
      }
      float sum = 0;
      UNROLL
      for (u32 word = 0; word < WORDS; word++) {
        store16_lds(staged, (slab * SLAB_PIECES + slot_in_slab(word, n, part)) * sizeof(u32x4), x[word]);
        sum = sum_of_piece<T>(x[word], sum);
      }
      sums[(slab * N + n) * K_LANES + part] = sum;
    }
}

// Lane y's sum of rows y of a wave, first_row + y of its tile.
DEVICE float sum_of(Total (&total)[TOTALS][Y_TILES], u32 first_row, u32 n) {
  float value = 0;
  UNROLL
  for (u32 y = 0; y < OUT_ROWS; y++) {
    const float sum = sum_over_wave(total[n][first_row + y]);
    value = lane_id() == y ? sum : value;
  }
  return value;
}

// Store a tile's outputs: store(n, m, value), or with pairs the activated product.
template <class Store> DEVICE void finish(Total (&total)[TOTALS][Y_TILES], u32 m0, u32 M, Store store) {
  const u32 m = m0 + wave_id() * OUT_ROWS + lane_id();
  UNROLL
  for (u32 n = 0; n < N; n++) {
    const float value = sum_of(total, 0, n), gated = sum_of(total, OUT_ROWS, n);
    if (lane_id() < OUT_ROWS && m < M) store(n, m, silu(value) * gated);
  }
}

SHARED_AT_LAUNCH u32x4 staged[];  // whole trips, then the sums of all chunks

// codes [E, 2 M, K / 8] words, scales [E, 2 M, K / GROUP_SIZE], zeros the same with eight rows to a word, or null; strides of rows and of experts in
// elements (words). act [rows, K], out [slots, M] contiguous: slots of blocks that are skipped, and of no block, stay as they are.
GLOBAL void moe_wvsplitk_int4_bf16_N2_THRDS32_YTILE4_WvPrGrp4_K_WAVES1_A_CHUNK16_UNRL4_GrpsPerCU1_GROUP_SIZE128_DEQUANTactsum_STAGINGlds_ROWSscattered_GRIDpersistent_SILU(
    const u32* codes, const T* scales, const u32* zeros, const T* act,
    const i32* expert_ids, const i32* sorted_ids, const i32* padded_slots, T* out,
    u32 M, u32 K, u32 code_stride, u32 scale_stride, u32 zero_stride, u32 act_stride,
    u32 code_expert, u32 scale_expert, u32 zero_expert, u32 slots, u32 top_k, u32 blocks, u32 groups) {
  wait_for_predecessor();
  let_successor_start();
  const u32 trips = (K + STEP - 1) / STEP;
  float* staged_sums = reinterpret_cast<float*>(staged + trips * UNRL * SLAB_PIECES);
  Staged at = { staged, staged_sums};
  // Groups take equal shares of the pairs of block and tile, tiles of a block side by side, so that a group keeps its rows.
  const u32 tiles = (M + GROUP_OUT - 1) / GROUP_OUT;
  if (padded_slots) {
    const u32 filled = same_in_wave(static_cast<u32>(*padded_slots)) / N;
    blocks = filled < blocks ? filled : blocks;
  }
  const u32 pairs = blocks * tiles, share = (pairs + groups - 1) / groups;
  const u32 begin = group_id() * share, end = pairs - begin < share ? pairs : begin + share;
  u32 round = 0, source[N];
  bool fresh = true;  // nothing is staged yet
  NO_UNROLL
  for (u32 pair = begin; pair < end && begin < pairs; pair++) {
    const u32 block = pair / tiles, tile = pair - block * tiles;
    const i32 expert = same_in_wave(expert_ids[block]);
    if (expert < 0) continue;
    const u32 m0 = tile * GROUP_OUT + wave_id() * OUT_ROWS;
    Rows rows;
    rows.set(codes + static_cast<u64>(expert) * code_expert, code_stride, scales + static_cast<u64>(expert) * scale_expert, scale_stride,
             zeros + static_cast<u64>(expert) * zero_expert, zero_stride, m0, M);
    const u32 last = m0 < M ? trips : 0;  // a wave without rows only helps to stage
    // Slots beyond the last one are padding.
    const auto slot_of = [=](u32 n) { const u32 i = block * N + n; return sorted_ids ? static_cast<u32>(sorted_ids[i]) : i; };
    const auto row_of = [=](u32 n) { const u32 slot = slot_of(n); return slot < slots ? slot / top_k : ~0u; };
    const auto piece_of = [=](u32, u32 n, u32 k) {
      const u32 row = row_of(n);
      u32x4 x = {};
      if (row != ~0u) x = load16(act + static_cast<u64>(row) * act_stride, k * sizeof(T));
      return x;
    };
    bool stays = !fresh;
    UNROLL
    for (u32 n = 0; n < N; n++) {
      const u32 row = same_in_wave(row_of(n));
      stays = stays && row == source[n];
      source[n] = row;
    }
    fresh = false;

    if (!stays) {
      barrier_lds();  // everyone is done with the last rows
      stage_rows(staged, staged_sums, 1, trips, K, piece_of);
      barrier_lds();
    }

    Total total[TOTALS][Y_TILES] = {};
    NO_UNROLL
    for (u32 done = 0; done < last; done += K_WAVES) {
      Trip<UNRL> trip;
      load_trip(trip, rows, done, K);
      issue_first();
      multiply_trip(total, trip, at.template fetch<UNRL>(done * UNRL));
    }
    const auto store = [=](u32 n, u32 m, float value) {
      const u32 slot = slot_of(n);
      if (slot < slots) out[static_cast<u64>(slot) * M + m] = round_to<T>(value);
    };
    finish(total, tile * GROUP_OUT, M, store);
  }
}
