#ifndef CORE_BASE_CPU_H
#define CORE_BASE_CPU_H
/* Threads and code paths. The only file that includes omp.h. */
enum cpu_path { CPU_GENERIC, CPU_AVX2, CPU_AVX512 };
/* Best path of this CPU, or what LINNET_CPU=generic|avx2|avx512 asks for (never above the CPU). */
enum cpu_path cpu_best_path(void);
const char *cpu_path_name(enum cpu_path p);
/* Threads that parallel regions use: cpu_set_threads, else OMP_NUM_THREADS, else allowed cores. */
int cpu_threads(void);
void cpu_set_threads(int n); /* n < 1: default again */
int cpu_thread_index(void);  /* inside a parallel region: 0 ... threads-1 */
int cpu_has_ifma(void);      /* AVX-512 products of 52-bit integers */
int cpu_has_clmul(void);     /* carry-less products of 64 bits */
double cpu_seconds(void);    /* monotonic clock */
#endif
