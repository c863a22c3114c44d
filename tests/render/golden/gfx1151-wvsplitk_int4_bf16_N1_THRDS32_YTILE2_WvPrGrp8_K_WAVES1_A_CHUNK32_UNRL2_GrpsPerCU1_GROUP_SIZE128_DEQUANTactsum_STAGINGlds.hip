// wvsplitk_int4_bf16_N1_THRDS32_YTILE2_WvPrGrp8_K_WAVES1_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_DEQUANTactsum_STAGINGlds   made by kgen from wvsplitk_int4.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx1151, wave32 ----
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(256, 256)))
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

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 1, YTILE = 2, WvPrGrp = 8, A_CHUNK = 32, UNRL = 2;
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
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
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

// One trip: U slabs of the rows from slab `slab` on, with everything on its way before the first product.
template <u32 U, bool GUARDED, class Act>
DEVICE void multiply_slabs(Total (&total)[TOTALS][Y_TILES], const Rows& rows, const Act& act, u32 slab, u32 first_slab, u32 K) {
  auto x = act.template fetch<U>(slab - first_slab);
  Trip<U> trip;
  trip.template load<GUARDED>(rows, slab, K);
  issue_first();
  x.land();
  multiply_trip(total, trip, x);
}

// total += rows * activations over slabs first_slab to end_slab of the rows, which end at K; `act` begins with the first of them.
template <class Act>
DEVICE void accumulate(Total (&total)[TOTALS][Y_TILES], const Rows& rows, const Act& act, u32 k_wave, u32 first_slab, u32 end_slab, u32 K) {
  const u32 whole = K / SLAB < end_slab ? K / SLAB : end_slab;
  u32 slab = first_slab + k_wave * UNRL;
  NO_UNROLL
  for (; slab + UNRL <= whole; slab += UNRL)
    multiply_slabs<UNRL, false>(total, rows, act, slab, first_slab, K);
  NO_UNROLL
  for (u32 u = 0; u < UNRL && slab + u < end_slab; u++)  // what is left, slab by slab
    multiply_slabs<1, true>(total, rows, act, slab + u, first_slab, K);
}

// Copy a row of activations to LDS, `slabs` slabs from element `first` on; zeros beyond K. `row_of(n)` is where row n begins.
template <class RowOf> DEVICE void stage(u32x4* pieces, float* sums, u32 first, u32 slabs, u32 K, RowOf row_of) {
  NO_UNROLL
  for (u32 n = 0; n < N; n++)
    NO_UNROLL
    for (u32 chunk = thread_id(); chunk < slabs * K_LANES; chunk += WvPrGrp * WAVE) {
      const u32 slab = chunk / K_LANES, part = chunk % K_LANES, k = first + chunk * A_CHUNK;
      u32x4 x[WORDS] = {};
      if (k < K) {
        UNROLL
        for (u32 word = 0; word < WORDS; word++) x[word] = load16(row_of(n), k * sizeof(T), word * sizeof(u32x4));
      }
      UNROLL
      for (u32 word = 0; word < WORDS; word++)
        store16_lds(pieces, (slab * SLAB_PIECES + slot_in_slab(word, n, part)) * sizeof(u32x4), x[word]);
      float sum = 0;
      UNROLL
      for (u32 word = 0; word < WORDS; word++) sum = sum_of_piece<T>(x[word], sum);
      sums[(slab * N + n) * K_LANES + part] = sum;
    }
}

SHARED_AT_LAUNCH u32x4 staged[];  // all slabs, then the sums of all chunks
constexpr u32 GROUP_ROWS = WvPrGrp * YTILE;  // rows of a work-group's tile

// Add the lanes' sums, add bias, round once and store the rows of a tile that exist.
DEVICE void finish(Total (&total)[TOTALS][Y_TILES], const T* bias, u32 bias_stride, T* out, u32 m0, u32 M) {
  UNROLL
  for (u32 n = 0; n < N; n++) {
    float value = 0;  // lane y keeps row m0 + y
    UNROLL
    for (u32 y = 0; y < YTILE; y++) {
      const float sum = sum_over_wave(total[n][y]);
      value = lane_id() == y ? sum : value;
    }
    const u32 m = m0 + lane_id();
    if (lane_id() < YTILE && m < M) {
      if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
      out[static_cast<u64>(n) * M + m] = round_to<T>(value);
    }
  }
}

// codes [M, K / 8] words, scales [M, K / GROUP_SIZE], zeros [ceil(M / 8), K / GROUP_SIZE] words or null, act [N, K]; strides in elements (words)
// of rows. bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous.
GLOBAL void wvsplitk_int4_bf16_N1_THRDS32_YTILE2_WvPrGrp8_K_WAVES1_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_DEQUANTactsum_STAGINGlds(
    const u32* codes, const T* scales, const u32* zeros, const T* act, const T* bias, T* out, u32 M, u32 K,
    u32 code_stride, u32 scale_stride, u32 zero_stride, u32 act_stride, u32 bias_stride, u32 groups) {
  const u32 slabs = (K + SLAB - 1) / SLAB;
  const u32 wave = wave_id();
  float* staged_sums = reinterpret_cast<float*>(staged + slabs * SLAB_PIECES);
  const auto row_of = [=](u32 n) { return act + static_cast<u64>(n) * act_stride; };
  Staged at = { staged, staged_sums};
  stage(staged, staged_sums, 0, slabs, K, row_of);
  barrier();

  for (u32 tile = group_id(); tile * GROUP_ROWS < M; tile += groups) {
    const u32 m0 = tile * GROUP_ROWS + wave * YTILE;
    if (m0 >= M) break;
    Rows rows;
    rows.set(codes, code_stride, scales, scale_stride, zeros, zero_stride, m0, M);
    Total total[TOTALS][Y_TILES] = {};
    accumulate(total, rows, at, 0, 0, slabs, K);
    finish(total, bias, bias_stride, out, m0, M);
  }
}
