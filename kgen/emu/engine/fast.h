#include "operands.h"
#define WAVE 32
#define RUN run32
#include "loop.h"
#undef WAVE
#undef RUN
#define WAVE 64
#define RUN run64
#include "loop.h"
