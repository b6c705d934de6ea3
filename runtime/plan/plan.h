#ifndef RUNTIME_PLAN_PLAN_H
#define RUNTIME_PLAN_PLAN_H
/*
 * The plan: a private inference as a flat list of steps, and its two files.
 *
 *     model.pi           proto/pi.proto, PUBLIC: steps, shapes, scales, masks; claims
 *     model.pi.weights   safetensors, SECRET: "<step>.weight" int16, "<step>.bias" int64,
 *                        "<step>.offset" int64 of lines at removed ReLUs, and the metadata linnet.{model_id,salt,source_sha256,scales,maxima}
 *
 * Numbers live in Z_2^64, two's complement. A tensor of scale s holds round(x * 2^s). Activations
 * have the plan's scale f. A linear step multiplies by weights of scale f_w, so its sums have scale
 * f + f_w; `shift` truncates them back to f (floor). Where a block adds a shortcut, the truncation
 * sits on the add: the operands are brought to one scale by input_shift first, so a block output is
 * truncated once. The two-party run executes the same list.
 *
 *     struct plan *p = NULL;
 *     struct plan_weights *w = NULL;
 *     if ((rc = plan_read("model.pi", &p)) < 0 ||
 *         (rc = plan_weights_read(p, "model.pi.weights", &w)) < 0)
 *         goto out;
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define PLAN_VERSION 2
#define PLAN_MAGIC "linnet.pi"
#define PLAN_RING_BITS 64
#define PLAN_SALT 32
#define PLAN_HASH 32
/* Limits of a file; reasons: memory of a reader, products inside int64. */
#define PLAN_MAX_FILE ((size_t)256 << 20)
#define PLAN_ARENA ((size_t)2 << 30) /* of one in memory */
#define PLAN_MAX_TENSORS 16384
#define PLAN_MAX_ELEMENTS ((int64_t)1 << 26) /* of one tensor: 8 bytes each */
#define PLAN_MAX_TOTAL ((int64_t)1 << 29)    /* elements of all tensors together */
#define PLAN_MAX_CHANNELS 16                 /* of the input */
#define PLAN_MAX_WINDOW 65535 /* terms of one sum: 2^22 * 2^15 * K < 2^53, exact in doubles */
#define PLAN_MIN_SCALE 8
#define PLAN_MAX_SCALE 14
#define PLAN_MAX_WEIGHT_SCALE 30
#define PLAN_VALUE_BITS 62 /* scale + max_log2 of every tensor stays below: no wrap */
#define PLAN_MARGIN_BITS 2 /* between the calibrated maximum and a comparison's range */
#define PLAN_MIN_WIDTH 21
#define PLAN_MAX_WIDTH 61
#define PLAN_MAX_LINE_SHIFT 16
#define PLAN_MAX_SLOPE (1 << 20)

enum plan_kind { /* order of enum StepKind of pi.proto */
                 PLAN_CONV = 1,
                 PLAN_GEMM,
                 PLAN_ADD,
                 PLAN_RELU,
                 PLAN_SUM_POOL,
                 PLAN_MAX_POOL,
                 PLAN_PAD,
                 PLAN_SLICE,
                 PLAN_FLATTEN,
};

struct plan_tensor {
    int32_t rank;            /* 3: [C,H,W], 1: [K] */
    int64_t dim[3];          /* 1 beyond the rank */
    int64_t count;           /* product */
    int32_t scale, max_log2; /* bits after the point; calibrated |x| <= 2^max_log2 */
};
struct plan_linear { /* conv: weights [O,C/group,KH,KW]; gemm: [O,K], kernel 1x1 on [K,1,1] */
    int64_t kernel[2], stride[2], pad[4] /* top, left, bottom, right */, dilation[2], group;
    int32_t weight_scale;
};
struct plan_pool {
    int64_t kernel[2], stride[2], pad[4];
    int32_t width; /* max_pool: m of its comparisons, else 0 */
};
struct plan_relu {
    int64_t total, kept;
    uint32_t *index; /* kept positions, strictly increasing, in the arena */
    int32_t width;   /* m: the sign is bit m-1 */
    /* Kept positions are max(x, 0) or, with cap > 0 (at scale f), max(x, 0) - max(x - cap, 0), two ReLU
     * evaluations each. */
    int64_t cap;
    /* Removed positions are x; with line_shift > 0 they are floor(slope[c] x / 2^line_shift) + b[c],
     * b being secret (plan_matrix.bias at scale f). slope [n_slope = C], in the arena; NULL: 1 throughout. */
    int32_t line_shift, n_slope;
    int32_t *slope;
};
struct plan_pad {
    int64_t begin[3], end[3];
};
struct plan_slice {
    int64_t start[3], step[3];
};
struct plan_step {
    enum plan_kind kind;
    const char *name;
    int32_t in[2], n_in, out;
    int32_t shift, input_shift[2];
    union {
        struct plan_linear linear;
        struct plan_pool pool;
        struct plan_relu relu;
        struct plan_pad pad;
        struct plan_slice slice;
    } u;
};
struct plan_input {
    const char *name, *normalize, *preparation; /* texts, never NULL */
    int32_t low, high;                          /* uint8 values that mean 0 and 1 */
    double mean[PLAN_MAX_CHANNELS], std[PLAN_MAX_CHANNELS];
};
struct plan_claim {
    const char *metric, *data;
    double percent;
    uint64_t images;
};
struct plan { /* plan_check() states the invariant */
    struct arena *arena;
    const char *model_id, *branch, *producer; /* texts, never NULL */
    uint8_t commitment[PLAN_HASH];
    uint8_t identity[PLAN_HASH]; /* of the package: filled in where a file is read or written */
    struct plan_input input;
    int32_t scale, failure_log2;
    struct plan_tensor *tensor; /* 0 is the input */
    int32_t n_tensor;
    struct plan_step *step; /* the last one makes the output */
    int32_t n_step;
    int64_t relus, relus_kept, macs;
    int32_t relu_layers, linear_layers;
    struct plan_claim *claim;
    int32_t n_claim;
    const char **label, **note;
    int32_t n_label, n_note;
};
/* Of one linear step, or of a relu_partial with lines: no weights, one offset a channel. The arrays are owned by struct plan_weights. */
struct plan_matrix {
    int16_t *weight; /* [O,K]; conv: K = C/group * KH * KW */
    int64_t *bias;   /* [O], scale f + f_w; of lines: [C], scale f */
    int64_t rows, columns;
};
struct plan_weights {
    struct arena *arena;
    struct plan_matrix *matrix; /* one a step, zeros where the step is not linear */
    int32_t n_matrix;
    uint8_t salt[PLAN_SALT];
    const char *source_sha256; /* 64 digits or "" */
    const char *maxima;        /* JSON: exact calibrated maximum per tensor */
};

/* An empty plan with its arena; plan_new for the exporter. */
int plan_new(struct plan **out) MUST_CHECK;
void plan_free(struct plan *p); /* NULL is fine */
FREE_AT(plan_free, struct plan)
/* Rows and columns of a linear step's weights; channels and 0 for lines; zeros for other steps. */
void plan_matrix_size(const struct plan *p, const struct plan_step *s, int64_t *rows,
                      int64_t *columns);
/* Numbers that the last step makes. */
int64_t plan_classes(const struct plan *p);
/* All matrices of the plan, zeroed; the salt is not drawn. */
int plan_weights_new(const struct plan *p, struct plan_weights **out) MUST_CHECK;
void plan_weights_free(struct plan_weights *w); /* wipes; NULL is fine */
FREE_AT(plan_weights_free, struct plan_weights)

/* Removed positions of this step are lines. */
static inline bool plan_is_linear(const struct plan_step *s)
{
    return s->kind == PLAN_CONV || s->kind == PLAN_GEMM;
}
static inline bool plan_has_lines(const struct plan_step *s)
{
    return s->kind == PLAN_RELU && s->u.relu.line_shift > 0;
}
/* Selections of a ReLU step: one a kept position, two where there is a cap. */
static inline int64_t plan_evaluations(const struct plan_relu *r)
{
    return r->cap > 0 ? 2 * r->kept : r->kept;
}
/* The same of all ReLU steps. */
int64_t plan_all_evaluations(const struct plan *p);
/* Bits that the comparisons of a ReLU step need for an operand of this scale and range: sign, |x| or
 * |x - cap|, margin. */
int32_t plan_relu_width(int32_t scale, int32_t max_log2, int64_t cap);
/* Bits that the slopes of a step add to |x|: 0 where they are 1. */
int32_t plan_slope_log2(const struct plan_step *s);

/* Chance that a local truncation goes wrong somewhere in one answer, which is garbage then: elements times
 * |value before truncation| / 2^64. max: largest real |value| of each tensor, where they are known (they
 * are secret: the weights' file has them); NULL: twice the powers of two that the plan states, a
 * bound as long as inputs stay below those. */
double plan_failure(const struct plan *p, const double *max);
double plan_step_failure(const struct plan *p, int32_t step, const double *max); /* its share */
/* Recomputes totals and failure bound from steps and masks. */
void plan_complete(struct plan *p);
/*
 * Every rule of a valid plan; ERR_FORMAT, ERR_LIMIT or ERR_UNSUPPORTED name step or tensor:
 * - counts and sizes within the limits above, no product overflows;
 * - operands come from earlier steps, every tensor but the input is made exactly once; the last
 *   step makes the output, which has rank 1; every other tensor is read;
 * - shapes follow from the attributes; scales follow from shifts; activations have scale f;
 * - kept positions increase, lie inside the layer and are as many as stated;
 * - comparisons have m = 4q+1 bits and cover the calibrated maximum (and cap more, where x - cap is
 *   compared too) with PLAN_MARGIN_BITS;
 * - scale + max_log2 leaves no wrap; sums have at most PLAN_MAX_WINDOW terms;
 * - totals and failure bound are those that follow from the program.
 */
int plan_check(const struct plan *p) MUST_CHECK;
/* Rules that need both: shapes agree, and every sum, bounded by the weights' L1 norm and the
 * calibrated range of its operand, stays inside the ring. */
int plan_weights_check(const struct plan *p, const struct plan_weights *w) MUST_CHECK;

/* Reads and checks. The file may be hostile. ERR_UNSUPPORTED: another file version, or a core with a
 * field that is not known here. */
int plan_read(const char *path, struct plan **out) MUST_CHECK;
int plan_read_bytes(const uint8_t *bytes, size_t len, const char *what,
                    struct plan **out) MUST_CHECK;
/* ERR_FORMAT if the file is not the one that p commits to. */
int plan_weights_read(const struct plan *p, const char *path, struct plan_weights **out) MUST_CHECK;
/* Checks, writes the weights (mode 0600), puts their hash into p->commitment, then writes p. Both
 * atomically. */
int plan_write(struct plan *p, const struct plan_weights *w, const char *path,
               const char *weights_path) MUST_CHECK;
/* The bytes of model.pi (mem_free); sets p->identity. */
int plan_bytes(struct plan *p, uint8_t **out, size_t *len) MUST_CHECK;
/* model_id := 16 digits of SHA-256("linnet.pi model id" + salt). */
int plan_name_model(struct plan *p, const uint8_t salt[PLAN_SALT]) MUST_CHECK;
/* identity := SHA-256("linnet model 2" + core), the bytes as they are stored. */
int plan_identify(struct plan *p, const uint8_t *core, size_t len) MUST_CHECK;
const char *plan_kind_name(enum plan_kind k); /* "conv" */
#endif
