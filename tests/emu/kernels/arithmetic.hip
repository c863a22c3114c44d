// Float, integer, half, bf16 and fp8 arithmetic and conversions, one output row per expression.
K void nt(const f4* a, f4* o, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    f4 v = __builtin_nontemporal_load(&a[i]);
    v = v * 2.f + 1.f;
    __builtin_nontemporal_store(v, &o[i]);
  }
}
#define P(e) o[n * (k++) + t] = (e);
K void fmath(const float* a, const float* b, float* o, int n) {
  int t = threadIdx.x, k = 0;
  float x = a[t], y = b[t], ax = __builtin_fabsf(x);
  P(__expf(x)) P(__builtin_expf(x)) P(__logf(ax + 0.1f)) P(__builtin_logf(ax + 0.1f)) P(1.0f / y) P(x / y) P(x * __builtin_amdgcn_rcpf(y))
  P(__builtin_sqrtf(ax)) P(__builtin_amdgcn_rsqf(ax + 0.5f)) P(__builtin_floorf(x)) P(__builtin_ceilf(x)) P(__builtin_rintf(x)) P(__builtin_truncf(x))
  P(__builtin_fminf(x, y)) P(__builtin_fmaxf(x, y)) P(__builtin_fmaf(x, y, 1.5f)) P(x * (1.f / (1.f + __expf(-x)))) P(__builtin_sinf(x)) P(__builtin_cosf(x))
  P(__builtin_exp2f(y * __builtin_log2f(ax))) P(__builtin_ldexpf(x, 3)) P(__builtin_copysignf(x, y)) P(__builtin_amdgcn_fmed3f(x, y, 0.25f))
  P(__builtin_amdgcn_rcpf(y)) P(__builtin_amdgcn_exp2f(x)) P(__builtin_exp2f(x)) P(__builtin_fmodf(x, y)) P(__saturatef(x)) P(__builtin_roundf(x))
  P(x > y ? x : -y) P(__builtin_isnan(x / (y - y)) ? 1.f : 2.f) P((float)((double)x / (double)y)) P((float)__builtin_sqrt((double)ax))
}
K void imath(const int* a, const int* b, u32* o, int n) {
  int t = threadIdx.x, k = 0;
  int x = a[t], y = b[t];
  u32 ux = x, uy = y;
  P(x + y) P(x - y) P(x * y) P(ux / (uy | 1)) P(ux % (uy | 1)) P(x / (y | 1)) P(x % (y | 1)) P(x << (y & 31)) P(ux >> (y & 31)) P(x >> (y & 31))
  P(__umulhi(ux, uy)) P(__mulhi(x, y)) P(min(x, y)) P(max(ux, uy)) P(abs(x)) P(__popc(ux)) P(__clz(ux)) P(__ffs(x)) P(__brev(ux)) P((ux >> 5) & 0x3ff)
  P((x << 7) >> 20) P(__builtin_amdgcn_perm(ux, uy, 0x07020500u)) P(__builtin_amdgcn_perm(ux, uy, 0x0c0d0a08u)) P(__builtin_amdgcn_ubfe(ux, y & 31, 7)) P(__builtin_amdgcn_sbfe(x, y & 31, 9))
  P((ux & 0x0f0f0f0f) | 0x64006400) P((ux & uy) | (~ux & 0x12345678)) P(__builtin_amdgcn_alignbit(ux, uy, y & 31)) P((u32)(((u64)ux * uy) >> 13)) P((u32)(((long long)x * y) >> 20))
  P((u32)((((u64)ux << 32) | uy) / (uy | 3))) P(ux + uy * 4u) P((ux ^ uy) + 7) P((ux << 3 | uy)) P(__builtin_amdgcn_sad_u8(ux, uy, 5)) P(((x > y) << 1) | (ux < uy))
  P((u8)x * (u8)y + (u16)x) P((short)x * (short)y) P(x * (int)(y & 0xffffff)) P((u32)(((long long)x << 9) >> (y & 63))) P(__mul24(x, y)) P(__builtin_rotateleft32(ux, y & 31)) P(__builtin_bswap32(ux))
  P((u32)__popcll(((u64)ux << 20) | uy)) P(ux * 3u + uy + 9u)
#if G9
  P(__builtin_amdgcn_sdot4(x, y, 5, false))
#else
  P(__builtin_amdgcn_sudot4(true, x, true, y, 5, false))
#endif
  P(__builtin_amdgcn_udot4(ux, uy, 5, false)) P((u32)__clzll(((long long)x << 8) | 1)) P((u32)min(max(x, -1000), 70000)) P((u16)(ux >> 3) + (u16)((u16)uy << 2)) P((u32)(u16)min((u16)ux, (u16)uy))
}
#undef P
#define P(e) o[n * (k++) + t] = BITS(u32, (e));
#define H(lo, hi) (h2{(_Float16)(lo), (_Float16)(hi)})
K void hmath(const h2* a, const h2* b, const h2* c, u32* o, int n) {
  int t = threadIdx.x, k = 0;
  h2 x = a[t], y = b[t], z = c[t];
  P(x + y) P(x - y) P(x * y) P(__builtin_elementwise_fma(x, y, z)) P(-x) P(H(__builtin_amdgcn_rcph(y.x), __builtin_amdgcn_rcph(y.y))) P(H(x.y, y.x)) P(x + (_Float16)1.5f)
  P(__builtin_elementwise_fma(x, H(y.x, y.x), z)) P(H((float)x.x * (float)y.x, (float)x.y * 3.f)) P(H(x.x + y.y, x.y * z.x)) P(H(__expf(x.x), __expf(x.y)))
  P(__builtin_elementwise_max(x, y)) P(__builtin_elementwise_min(x, y)) P(H(t * 3 - 40, (short)(t - 5)))
  P(H(__builtin_elementwise_sqrt(x.x < 0 ? (_Float16)-x.x : x.x), __builtin_amdgcn_rcph(y.y))) P(__builtin_elementwise_fma(-x, y, z))
  P(H(__builtin_elementwise_fma(x.x, y.x, z.x), x.x - z.y)) P(H(__builtin_elementwise_floor(x.x), x.x / y.x))
  P(__builtin_amdgcn_cvt_pkrtz((float)x.x * 1.001f, (float)y.y * 0.77f)) P((u32)((int)x.x * 65536 + ((short)y.y & 0xffff)))
  u32 q = BITS(u32, x), lo = (q & 0x000f000f) | 0x64006400, hi = (q & 0x00f000f0) | 0x64006400;  // int4 -> half, the usual magic numbers
  P(BITS(h2, lo) - (_Float16)1032.f) P(__builtin_elementwise_fma(BITS(h2, hi), H(0.0625f, 0.0625f), H(-72.f, -72.f)))
  P((float)x.x * (float)y.x + (float)z.y) P((float)x.y * 1.0f + (float)z.x)
}
#undef P
#define P(e) o[n * (k++) + t] = (e);
K void bfmath(const u16* a, const u16* b, float* o, u16* ob, int n) {
  int t = threadIdx.x, k = 0;
  const __bf16 *A = (const __bf16*)a, *B = (const __bf16*)b;
  float x = A[t], y = B[t];
  P(x) P(x * y) P(__uint_as_float((u32)a[t] << 16) + y)
  __bf16* OB = (__bf16*)ob;
  OB[t] = (__bf16)(x * y); OB[n + t] = (__bf16)(x + y); OB[2 * n + t] = A[t] * B[t]; OB[3 * n + t] = A[t] + B[t];
  OB[4 * n + t] = (__bf16)(x * 1.001f); OB[5 * n + t] = (__bf16)(x / y);
  OB[6 * n + t] = A[t] * B[t] + (__bf16)1.0f;
  bf2 v; v[0] = (__bf16)(x * 3.14159f); v[1] = (__bf16)(y * 2.71828f);
  *(bf2*)&ob[n * 8 + 2 * t] = v;
}
#undef P
#define P(e) o[n * (k++) + t] = (u32)(e);
K void cvts(const float* a, u32* o, int n) {
  int t = threadIdx.x, k = 0;
  float x = a[t], ax = __builtin_fabsf(x);
  P((int)x) P((u32)ax) P((int)__builtin_rintf(x)) P((short)x) P((u8)ax) P((int)__builtin_floorf(x)) P((int)__builtin_ceilf(x)) P((u32)__builtin_rintf(ax)) P((int)((double)x * 1.5))
  P(__float_as_uint((float)(int)(x * 100))) P(__float_as_uint((float)(u32)(ax * 100))) P(__float_as_uint((float)((double)x / 3.0))) P((long long)((double)x * 1e6)) P(__float_as_uint((float)(long long)(x * 12345.f)))
  P(__float_as_uint((float)(u8)(t * 3))) P(__float_as_uint((float)((t * 0x01030507u) >> 8 & 255) + (float)((t * 0x01030507u) >> 24)))
  P(BITS(u16, (_Float16)x)) P(BITS(u16, (__bf16)x)) P(__builtin_amdgcn_cvt_pk_u8_f32(ax, 1, 0xaabbccdd)) P(BITS(u32, __builtin_amdgcn_cvt_pknorm_i16(x * 0.01f, x * -0.02f)))
}
#if G9 || G12
K void cvt8(const float* a, u32* o, float* f, const u32* q, int n) {
  int t = threadIdx.x;
  float x = a[2 * t], y = a[2 * t + 1];
  u32 r = 0xaaaabbbb;
  r = __builtin_amdgcn_cvt_pk_fp8_f32(x, y, r, false); o[t] = r;
  r = __builtin_amdgcn_cvt_pk_fp8_f32(x, y, r, true); o[n + t] = r;
  o[2 * n + t] = __builtin_amdgcn_cvt_pk_bf8_f32(x, y, 0, false);
  f[t] = __builtin_amdgcn_cvt_f32_fp8(q[t], 0); f[n + t] = __builtin_amdgcn_cvt_f32_fp8(q[t], 1); f[2 * n + t] = __builtin_amdgcn_cvt_f32_fp8(q[t], 2); f[3 * n + t] = __builtin_amdgcn_cvt_f32_fp8(q[t], 3);
  f[4 * n + t] = __builtin_amdgcn_cvt_f32_bf8(q[t], 1);
  auto p = __builtin_amdgcn_cvt_pk_f32_fp8(q[t], true); f[5 * n + t] = p[0]; f[6 * n + t] = p[1];
  p = __builtin_amdgcn_cvt_pk_f32_bf8(q[t], false); f[7 * n + t] = p[0]; f[8 * n + t] = p[1];
}
#endif
// uniform float arithmetic: scalar ALU float instructions from gfx1150 on
K void sfloat(float a, float b, int n, float* o) {
  float x = a * b + 1.5f, y = a - b;
  int k = 0;
  o[k++] = x; o[k++] = y; o[k++] = __builtin_fminf(x, y); o[k++] = __builtin_fmaxf(x, y); o[k++] = __builtin_floorf(x); o[k++] = __builtin_ceilf(x); o[k++] = __builtin_truncf(y); o[k++] = __builtin_rintf(y);
  o[k++] = (float)n * b; o[k++] = (float)(unsigned)n; o[k++] = (float)(int)(a * 10.f); o[k++] = (float)(unsigned)(a * 16.f); o[k++] = x > y ? a : b; o[k++] = x <= y ? 1.f : 2.f;
  o[k++] = (float)((_Float16)a * (_Float16)b); o[k++] = (float)((_Float16)a + (_Float16)n); o[k++] = __builtin_fmaf(a, b, x); o[k++] = x != x ? 1.f : 0.f;
  o[k++] = (a < b || n > 3) ? x * y : x / y;
}
