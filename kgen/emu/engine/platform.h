// The few things the engine needs from the platform, declared by hand.
//
// No header is included anywhere: a machine with a compiler but without the C library's development files can build the engine, and
// so can a cross-checking compiler with another idea of what <math.h> holds. Everything here has had this signature since C99/POSIX.
#ifndef KGEN_EMU_PLATFORM_H
#define KGEN_EMU_PLATFORM_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef __SIZE_TYPE__ usize;

#define NULL ((void *)0)
#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)
#define signbit(x) __builtin_signbit(x)

// libc
void *memcpy(void *to, const void *from, usize n);
void *memset(void *to, int byte, usize n);
int memcmp(const void *a, const void *b, usize n);
void *malloc(usize n);
void *calloc(usize count, usize n);
void free(void *p);
int pthread_create(unsigned long *thread, const void *attributes, void *(*start)(void *), void *argument);
int pthread_join(unsigned long thread, void **result);

// libm
double fabs(double), floor(double), ceil(double), trunc(double), nearbyint(double), sqrt(double), sin(double), cos(double);
double fmin(double, double), fmax(double, double), fma(double, double, double), exp2(double), log2(double);
double ldexp(double, int), frexp(double, int *);
float fabsf(float), floorf(float), ceilf(float), truncf(float), nearbyintf(float), sqrtf(float), exp2f(float), log2f(float);
float fmaf(float, float, float);

// A loop over lanes has no dependence between lanes: registers are whole rows, equal or disjoint.
#if defined(__clang__)
#define EACH_LANE_ALONE _Pragma("clang loop vectorize(assume_safety)")
#else
#define EACH_LANE_ALONE _Pragma("GCC ivdep")
#endif

#endif
