// gemm_4bit_bf16_N1_THRDS32_YTILE2_WvPrGrp16_K_WAVES1_A_CHUNK32_UNRL1_GrpsPerCU1_GROUP_SIZE64_TABLEperm_STAGINGlds   made by kgen from gemm_4bit.hip.jinja; edit the template, not this file
// ---- prelude: AMD gfx1151, wave32 ----
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

// ---- prelude: table look-ups by permutes; AMD gfx1151 ----
using u8 = unsigned char;
using f32 = float;
using fp32 = float;
DEVICE float to_f32(float x) { return x; }
// a * b, rounded: never part of a multiply-add with what comes next, so that every row's sum is made alike.
DEVICE float multiplied(float a, float b) {
  _Pragma("clang fp contract(off)") return a * b;
}
// Two fp32 numbers of neighbouring registers; sum + a * b of both.
using f32x2 = float __attribute__((ext_vector_type(2)));
DEVICE f32x2 f32_pair(u32 x, u32 y) { return {__builtin_bit_cast(float, x), __builtin_bit_cast(float, y)}; }
DEVICE f32x2 multiply_add(f32x2 a, f32x2 b, f32x2 sum) { return __builtin_elementwise_fma(a, b, sum); }

// Bytes of high:low by the selectors in `by`: 0 to 7 a byte, 8 to 11 the sign of byte 1, 3, 5, 7 spread over eight bits, 12 zero, 13 and up 0xff.
DEVICE u32 permute_bytes(u32 high, u32 low, u32 by) { return __builtin_amdgcn_perm(high, low, by); }
// The order in which look-ups give the eight elements of a word: those in the high bits of its bytes, then those in the low bits.
DEVICE u32x4 reorder(u32x4 x) {
  return {permute_bytes(x[1], x[0], 0x05040100u), permute_bytes(x[3], x[2], 0x05040100u), permute_bytes(x[1], x[0], 0x07060302u), permute_bytes(x[3], x[2], 0x07060302u)};
}
// Four bytes of a table of 16: `first` and `second` are its halves such that what one answers to a code of the other is already taken off.
DEVICE u32 look_up(const u32 (&plane)[4], u32 by, u32 turned) {
  return permute_bytes(plane[1], plane[0], by) ^ permute_bytes(plane[3], plane[2], turned);
}
// The eight 16-bit elements of a word's codes, two to a register.
DEVICE void look_up_pairs(u32 word, const u32 (&low)[4], const u32 (&high)[4], u32 (&pairs)[4]) {
  UNROLL
  for (u32 half = 0; half < 2; half++) {
    const u32 by = (half ? word : word >> 4) & 0x0f0f0f0fu, turned = by ^ 0x08080808u;
    const u32 lows = look_up(low, by, turned), highs = look_up(high, by, turned);
    pairs[2 * half] = permute_bytes(highs, lows, 0x05010400u);
    pairs[2 * half + 1] = permute_bytes(highs, lows, 0x07030602u);
  }
}
// The same where bit 3 of a code is the sign and the other bits choose one of eight: one permute per byte of an element, none for low bytes of zero.
template <bool LOWS> DEVICE void look_up_signed_pairs(u32 word, const u32 (&low)[4], const u32 (&high)[4], u32 (&pairs)[4]) {
  UNROLL
  for (u32 half = 0; half < 2; half++) {
    const u32 by = (half ? word : word >> 4) & 0x07070707u, signs = half ? word << 4 : word;
    const u32 highs = (signs & 0x80808080u) | (permute_bytes(high[1], high[0], by) & 0x7f7f7f7fu);
    const u32 lows = LOWS ? permute_bytes(low[1], low[0], by) : 0;
    pairs[2 * half] = permute_bytes(highs, lows, LOWS ? 0x05010400u : 0x050c040cu);
    pairs[2 * half + 1] = permute_bytes(highs, lows, LOWS ? 0x07030602u : 0x070c060cu);
  }
}
// ---- end of prelude ----

// M output features (weight rows), N activation rows, K reduction.
using T = bf16;
constexpr u32 N = 1, YTILE = 2, WvPrGrp = 16, A_CHUNK = 32, UNRL = 1;
constexpr u32 GROUP_SIZE = 64;  // K elements that are summed before absmax multiplies
constexpr u32 WORDS = A_CHUNK / 8;    // of a chunk: what one lane loads of a row at once
constexpr u32 VECTORS = sizeof(T) / 2;  // of 16 bytes: the activations of one word
constexpr u32 ROWS = 1, ROWS_OF_LANE = 1;  // every lane works on the same row
constexpr u32 K_LANES = WAVE;
constexpr u32 Y_TILES = YTILE / ROWS;
constexpr u32 SLAB = K_LANES * A_CHUNK;  // K elements that the lanes of a row cover with one chunk each

// What the 16 codes stand for, times SCALE and rounded to bf16; DESCALE is 1 / SCALE.
constexpr u32 DESCALE = 0x3f322dfcu;
using Pair = u32;
constexpr u32 LOW_BYTES[4] = {0x11be80b8u, 0xfff977d1u, 0x06b56d15u, 0x477ab022u}, HIGH_BYTES[4] = {0x404040bfu, 0xff4141beu, 0xc13e3e3du, 0xc0c0c03fu};

// The eight codes of a word as four pairs.
DEVICE void decode(u32 word, u32, Pair (&pairs)[4]) {
  look_up_pairs(word, LOW_BYTES, HIGH_BYTES, pairs);
}
DEVICE u32x4 staged_order(u32x4 x) { return reorder(x); }

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
  MEMBER float value(const Scale& scale) const { return scale.absmax; }
};

DEVICE u32 lane_part() { return lane_id(); }

constexpr u32 SCALES = 1;

// Where a lane finds the rows of its tile: for each row a base that is the same for the whole wave, and this lane's byte offset on top; and the row's
// first group, counted through the flattened weight.
struct Rows {
  const u32* codes[Y_TILES];
  u32 group[Y_TILES][ROWS_OF_LANE];

  // The tile that begins at row m0 of M; beyond M the last row again, which is not stored.
  MEMBER void set(const u32* code_rows, u32 m0, u32 M, u32 K) {
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const u32 m = m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;
      codes[y] = code_rows + static_cast<u64>(m) * (K / 8);
      group[y][0] = m * (K / GROUP_SIZE);
    }
  }
};

// What a lane has of U slabs of its rows.
template <u32 U> struct Trip {
  u32 codes[U][Y_TILES][ROWS_OF_LANE][WORDS];
  Scale scale[U][Y_TILES][SCALES];

  // From slab `slab` on. GUARDED: the row may end inside; lanes beyond K bring its start, against activations that are zero.
  template <bool GUARDED> MEMBER void load(const Rows& rows, const Scales& scales, u32 slab, u32 K) {
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
    for (u32 u = 0; u < U; u++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        scale[u][y][0] = scales.load(rows.group[y][0] + k / GROUP_SIZE + u * SLAB / GROUP_SIZE);
  }
};

using Total = float;
constexpr u32 TOTALS = N;
struct Piece { u32x4 vectors[VECTORS]; };  // the activations of one word, in the order of look-ups

// LDS holds activations in slabs: SLAB_VECTORS vectors of 16 bytes, word by word of a chunk, so that the lanes of a row read side by side.
constexpr u32 SLAB_VECTORS = WORDS * VECTORS * N * K_LANES;
DEVICE u32 slot_in_slab(u32 vector, u32 n, u32 part) { return (vector * N + n) * K_LANES + part; }

// What a wave reads of slabs in LDS.
struct InLds {
  const u32x4* vectors;

  MEMBER void set() {}
  MEMBER Piece piece(u32 n, u32 u, u32 word) const {
    Piece x;
    UNROLL
    for (u32 v = 0; v < VECTORS; v++)
      x.vectors[v] = load16_lds(vectors, lane_id() * sizeof(u32x4), (u * SLAB_VECTORS + slot_in_slab(word * VECTORS + v, n, 0)) * sizeof(u32x4));
    return x;
  }
};

// Staged for the whole work-group; read when they are needed.
struct Act {
  InLds lds;

  MEMBER void set(u32x4* vectors) {
    lds.vectors = vectors;
    lds.set();
  }
  template <u32 U, bool GUARDED> MEMBER Act fetch(u32 slab) const {
    Act x = *this;
    x.lds.vectors += slab * SLAB_VECTORS;
    return x;
  }
  MEMBER void land() const {}
  MEMBER Piece piece(u32 j, u32 u, u32 word) const { return lds.piece(j, u, word); }
};

template <u32 U> using Coming = Act;

// Copy activations to LDS, `slabs` slabs from element `first` on; zeros beyond K and beyond the rows that there are.
DEVICE void stage(u32x4* vectors, const T* act, u32 act_stride, u32 rows, u32 first, u32 slabs, u32 K) {
  NO_UNROLL
  for (u32 n = 0; n < N; n++)
    NO_UNROLL
    for (u32 chunk = thread_id(); chunk < slabs * K_LANES; chunk += WvPrGrp * WAVE) {
      const u32 slab = chunk / K_LANES, part = chunk % K_LANES, k = first + chunk * A_CHUNK;
      u32x4 x[WORDS * VECTORS] = {};
      if (k < K && n < rows) {
        UNROLL
        for (u32 v = 0; v < WORDS * VECTORS; v++) x[v] = load16(act + static_cast<u64>(n) * act_stride, k * sizeof(T), v * sizeof(u32x4));
      }
      UNROLL
      for (u32 v = 0; v < WORDS * VECTORS; v++)
        store16_lds(vectors, (slab * SLAB_VECTORS + slot_in_slab(v, n, part)) * sizeof(u32x4), staged_order(x[v]));
    }
}

// total += weights * activations over the U slabs of a trip.
template <u32 U>
DEVICE void multiply_trip(Total (&total)[TOTALS][Y_TILES], const Trip<U>& trip, const Scales& scales, const Coming<U>& act) {
  const u32 copy = 0;
  UNROLL
  for (u32 u = 0; u < U; u++) {
    Total part[TOTALS][Y_TILES] = {};
    UNROLL
    for (u32 word = 0; word < WORDS; word++) {
      Pair pairs[Y_TILES][ROWS_OF_LANE][4];
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        UNROLL
        for (u32 r = 0; r < ROWS_OF_LANE; r++) decode(trip.codes[u][y][r][word], copy, pairs[y][r]);
      UNROLL
      for (u32 j = 0; j < TOTALS; j++) {
        const Piece x = act.piece(j, u, word);
        UNROLL
        for (u32 i = 0; i < 4; i++)
          UNROLL
          for (u32 y = 0; y < YTILE; y++) part[j][y] = multiply_pair<T>(pairs[y][0][i], x.vectors[0][i], part[j][y]);
      }
    }
    UNROLL
    for (u32 y = 0; y < Y_TILES; y++) {
      const float scale = scales.value(trip.scale[u][y][0]);
      UNROLL
      for (u32 n = 0; n < N; n++) total[n][y] = mul_add(scale, part[n][y], total[n][y]);
    }
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
  MEMBER void multiply(Total (&total)[TOTALS][Y_TILES], const Scales& scales) const {
    act.land();
    multiply_trip(total, trip, scales, act);
  }
};

// total += rows * activations over slabs first_slab to end_slab of the rows, which end at K; `act` begins with slab `origin`.
DEVICE void accumulate(Total (&total)[TOTALS][Y_TILES], const Rows& at, const Scales& scales, const Act& act, u32 k_wave, u32 origin, u32 first_slab,
                       u32 end_slab, u32 K) {
  const u32 whole = K / SLAB < end_slab ? K / SLAB : end_slab;
  u32 slab = first_slab + k_wave * UNRL;
  Brought<UNRL> x;
  NO_UNROLL
  for (; slab + UNRL <= whole; slab += UNRL) {
    x.template bring<false>(at, scales, act, slab, origin, K);
    x.multiply(total, scales);
  }
  NO_UNROLL
  for (u32 u = 0; u < UNRL && slab + u < end_slab; u++) {  // what is left, slab by slab
    Brought<1> one;
    one.template bring<true>(at, scales, act, slab + u, origin, K);
    one.multiply(total, scales);
  }
}

SHARED_AT_LAUNCH u32x4 staged[];  // all slabs
constexpr u32 GROUP_ROWS = WvPrGrp * YTILE;  // rows of a work-group's tile

// Add the lanes' sums, add bias, round once and store the rows of a tile that exist.
DEVICE void finish(Total (&total)[TOTALS][Y_TILES], const T* bias, u32 bias_stride, T* out, u32 m0, u32 M, u32 rows) {
  UNROLL
  for (u32 n = 0; n < N; n++) {
    float value = 0;  // lane y keeps row m0 + y
    UNROLL
    for (u32 y = 0; y < YTILE; y++) {
      const float sum = sum_over_wave(total[n][y]);
      value = lane_id() == y ? sum : value;
    }
    const u32 m = m0 + lane_id();
    if (lane_id() < YTILE && m < M && n < rows) {
      if (bias) value += to_f32(bias[static_cast<u64>(n) * bias_stride + m]);
      out[static_cast<u64>(n) * M + m] = round_to<T>(value);
    }
  }
}

// codes [M, K / 8] words; absmax of the blocks of the flattened weight, plain or with absmax_codes, absmax_table [256] and absmax_offset [1]; act [N, K] of
// `all_rows` rows; bias null, [M] (bias_stride 0) or [N, M]; out [N, M], contiguous. A block is GROUP_SIZE << block_shift elements.
GLOBAL void gemm_4bit_bf16_N1_THRDS32_YTILE2_WvPrGrp16_K_WAVES1_A_CHUNK32_UNRL1_GrpsPerCU1_GROUP_SIZE64_TABLEperm_STAGINGlds(
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
  at.set(staged);
  stage(staged, act, act_stride, rows, 0, slabs, K);
  barrier();

  for (; tile * GROUP_ROWS < M; tile += groups) {
    const u32 m0 = tile * GROUP_ROWS + wave * YTILE;
    if (m0 >= M) break;
    Rows weights;
    weights.set(codes, m0, M, K);
    Total total[TOTALS][Y_TILES] = {};
    accumulate(total, weights, scales, at, 0, 0, 0, slabs, K);
    UNROLL
    for (u32 j = 0; j < TOTALS; j++)
      UNROLL
      for (u32 y = 0; y < Y_TILES; y++)
        total[j][y] = multiplied(total[j][y], as_float(DESCALE));
    finish(total, bias, bias_stride, out, m0, M, rows);
  }
}
