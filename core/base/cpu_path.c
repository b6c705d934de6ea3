/*
 * Instruction sets: what the CPU has, what the system permits, what LINNET_CPU asks for. Levels are a
 * ladder; each has all that is below it:
 *
 *     generic      plain C
 *     avx2         AVX2, FMA, BMI2
 *     avx512       AVX-512 F, BW, DQ, VL
 *     avx512bf16   ... and BF16
 *     amx          ... and AMX-TILE, AMX-BF16
 *
 * AMX needs a permission of Linux (5.16), once a process; it covers all threads and later children.
 * Without it a tile configuration can be loaded, but the first tile instruction is SIGILL. So nothing
 * is tried out: CPUID and XCR0 are read, then arch_prctl asks. Linux refuses with ENOSPC if any thread
 * has set a signal stack (sigaltstack) that is too small for a frame with tile registers, about 12 KB;
 * a container's filter of system calls may refuse as well.
 */
#define _DEFAULT_SOURCE /* syscall */
#include "core/base/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define CPUID_OSXSAVE (1u << 27)         /* leaf 1, ECX */
#define CPUID_AMX (1u << 22 | 1u << 24)  /* leaf 7, EDX: AMX-BF16, AMX-TILE */
#define XCR0_TILES (1u << 17 | 1u << 18) /* configuration, data */
#define ASK_PERMISSION 0x1023            /* ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18                     /* XFEATURE_XTILEDATA */

static const char *const names[] = {[CPU_GENERIC] = "generic",
                                    [CPU_AVX2] = "avx2",
                                    [CPU_AVX512] = "avx512",
                                    [CPU_AVX512BF16] = "avx512bf16",
                                    [CPU_AMX] = "amx"};

const char *cpu_path_name(enum cpu_path p)
{
    return names[p];
}

#if defined __x86_64__
#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#else
#define HAS(feature) 0
#endif

/* ---- what is there */

/* All but AMX. */
static enum cpu_path vector_level(void)
{
    if (!HAS("avx2") || !HAS("fma") || !HAS("bmi2"))
        return CPU_GENERIC;
    if (!HAS("avx512f") || !HAS("avx512bw") || !HAS("avx512vl") || !HAS("avx512dq"))
        return CPU_AVX2;
    return HAS("avx512bf16") ? CPU_AVX512BF16 : CPU_AVX512;
}

static struct cpu_amx amx; /* written once */
static pthread_once_t amx_once = PTHREAD_ONCE_INIT;

static void find_amx(void)
{
#if defined __x86_64__
    unsigned a, b, c, d, low, high;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & CPUID_AMX) != CPUID_AMX ||
        !__get_cpuid(1, &a, &b, &c, &d))
        return;
    amx.in_cpu = true;
    if ((c & CPUID_OSXSAVE) == 0)
        return;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    amx.saved = (low & XCR0_TILES) == XCR0_TILES;
    if (amx.saved && syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) != 0)
        amx.refused = errno;
#endif
}

const char *cpu_amx_missing(struct cpu_amx a, char text[CPU_TEXT])
{
    const char *why = strerror(a.refused);

    if (!a.in_cpu)
        return "the CPU does not have it, or the hypervisor hides it";
    if (!a.saved)
        return "the system does not save tile registers";
    if (a.refused == 0)
        return NULL;
    if (a.refused == ENOSPC)
        why = "a thread has a signal stack (sigaltstack) that is too small for tile registers";
    else if (a.refused == EINVAL || a.refused == EOPNOTSUPP || a.refused == ENOSYS)
        why = "it is older than 5.16 or built without AMX";
    snprintf(text, CPU_TEXT, "Linux gives no permission: %s", why);
    return text;
}

static enum cpu_path whole_level(void)
{
    char text[CPU_TEXT];
    enum cpu_path level = vector_level();

    pthread_once(&amx_once, find_amx);
    return level == CPU_AVX512BF16 && cpu_amx_missing(amx, text) == NULL ? CPU_AMX : level;
}

/* ---- what is asked for */

/* CPU_AMX, the highest, where LINNET_CPU is not set or is no level. */
static enum cpu_path asked_level(bool *known)
{
    const char *asked = getenv("LINNET_CPU");

    *known = asked == NULL;
    for (enum cpu_path p = CPU_GENERIC; asked != NULL && p <= CPU_AMX; p++)
        if (strcmp(asked, names[p]) == 0) {
            *known = true;
            return p;
        }
    return CPU_AMX;
}

static enum cpu_path lower(enum cpu_path a, enum cpu_path b)
{
    return a < b ? a : b;
}

enum cpu_path cpu_best_path(void)
{
    bool known;

    return lower(lower(vector_level(), CPU_AVX512), asked_level(&known));
}

enum cpu_path cpu_level(void)
{
    bool known;

    return lower(whole_level(), asked_level(&known));
}

int cpu_check(void)
{
    bool known;

    asked_level(&known);
    if (known)
        return 0;
    return fail(ERR_ARG, "LINNET_CPU=%.40s: must be generic, avx2, avx512, avx512bf16 or amx",
                getenv("LINNET_CPU"));
}

const char *cpu_describe(char text[CPU_TEXT])
{
    char amx_text[CPU_TEXT];
    const enum cpu_path have = whole_level(), level = cpu_level();
    const char *missing = cpu_amx_missing(amx, amx_text);
    size_t used = (size_t)snprintf(text, CPU_TEXT, "%s", names[level]);

    if (level < have)
        used += (size_t)snprintf(text + used, CPU_TEXT - used,
                                 " as LINNET_CPU asks; this machine has %s", names[have]);
    if (have < CPU_AVX512BF16)
        used += (size_t)snprintf(text + used, CPU_TEXT - used, "; no %s: not in this CPU",
                                 names[have + 1]);
    if (missing != NULL)
        snprintf(text + used, CPU_TEXT - used, "; no amx: %s", missing);
    return text;
}

/* ---- single features */

/* Measured: Zen 4 makes as many vdpbf16ps as fp32 multiply-adds a cycle, Sapphire Rapids a quarter of
 * them, so by the maker: no CPUID bit says it. */
int cpu_has_fast_bf16(void)
{
#if defined __x86_64__
    return vector_level() >= CPU_AVX512BF16 && __builtin_cpu_is("amd");
#else
    return 0;
#endif
}

int cpu_has_ifma(void)
{
    return HAS("avx512ifma");
}

int cpu_has_vnni(void)
{
    return HAS("avx512vnni");
}

int cpu_has_clmul(void)
{
    return HAS("pclmul");
}

static uint32_t leaf7_ecx; /* of CPUID, written once: in a virtual machine it takes microseconds */
static pthread_once_t leaf7_once = PTHREAD_ONCE_INIT;

static void read_leaf7(void)
{
#if defined __x86_64__
    unsigned a, b, c, d;

    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0)
        leaf7_ecx = c;
#endif
}

/* A feature that clang 14 has no name for, on vectors of that level. */
static int has_on_vectors(enum cpu_path level, int bit)
{
    pthread_once(&leaf7_once, read_leaf7);
    return level >= CPU_AVX2 && vector_level() >= level && (leaf7_ecx >> bit & 1) != 0;
}

int cpu_has_vaes(enum cpu_path level)
{
    return has_on_vectors(level, 9);
}

int cpu_has_wide_clmul(enum cpu_path level)
{
    return has_on_vectors(level, 10);
}
