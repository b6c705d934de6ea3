#ifndef CORE_BASE_CPU_H
#define CORE_BASE_CPU_H
/* What this process may use of the machine: instruction sets (cpu_path.c), threads and the clock
 * (cpu.c, the only file that includes omp.h). */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

/* Levels of instruction sets, each with all that is below it. LINNET_CPU=generic|avx2|avx512|
 * avx512bf16|amx asks for one; no function below goes above what the machine has. */
enum cpu_path { CPU_GENERIC, CPU_AVX2, CPU_AVX512, CPU_AVX512BF16, CPU_AMX };
/* The path of kernels in fp32 and in integers: at most CPU_AVX512. */
enum cpu_path cpu_best_path(void);
/* The level with bf16 and AMX. The first call asks the system for the permission to use AMX. */
enum cpu_path cpu_level(void);
const char *cpu_path_name(enum cpu_path p);
/* Pointer to `name` of a path of kernels: name_avx512, name_avx2 (x86 alone) or name_generic. */
#if defined __x86_64__
#define CPU_KERNELS(path, name)                                                                    \
    ((path) == CPU_AVX512 ? &name##_avx512 : (path) == CPU_AVX2 ? &name##_avx2 : &name##_generic)
#else
#define CPU_KERNELS(path, name) ((void)(path), &name##_generic)
#endif
/* ERR_ARG if LINNET_CPU holds another word; otherwise that word is ignored. */
int cpu_check(void) MUST_CHECK;
/* One line for --version: the level in use, and why it is no higher one. Returns text. */
#define CPU_TEXT 320
const char *cpu_describe(char text[CPU_TEXT]);

/* What decides about AMX. */
struct cpu_amx {
    bool in_cpu; /* CPUID has AMX-TILE and AMX-BF16 */
    bool saved;  /* XCR0: the system saves tile registers */
    int refused; /* errno of asking for the permission, 0: granted */
};
/* Why AMX cannot be used (perhaps in text), NULL if it can. */
const char *cpu_amx_missing(struct cpu_amx a, char text[CPU_TEXT]);

int cpu_has_fast_bf16(void); /* products of bf16 pairs (AVX512-BF16) at the rate of fp32 */
int cpu_has_ifma(void);      /* AVX-512 products of 52-bit integers */
int cpu_has_vnni(void);      /* AVX-512 products of bytes, added in 32 bits */
int cpu_has_clmul(void);     /* carry-less products of 64 bits */
/* Of vectors of that level, CPU_AVX2 or CPU_AVX512 (Zen 3 has them for AVX2 alone). */
int cpu_has_vaes(enum cpu_path level);       /* AES rounds */
int cpu_has_wide_clmul(enum cpu_path level); /* carry-less products */

/* Threads that parallel regions use: cpu_set_threads, else OMP_NUM_THREADS, else allowed cores. */
int cpu_threads(void);
void cpu_set_threads(int n); /* n < 1: default again */
int cpu_thread_index(void);  /* inside a parallel region: 0 ... threads-1 */
double cpu_seconds(void);    /* monotonic clock */

/* Bytes of memory that a process may still take without harm to others: what the system calls available, and
 * no more than the control groups that this one is in may have at all. 0: unknown. */
uint64_t cpu_memory(void);
/* Test hook: the same where /proc and /sys lie below `root`. */
uint64_t cpu_memory_at(const char *root);
#endif
