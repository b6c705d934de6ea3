/*
 * Transformed filters, and the weight gradient out of transformed sums (wino_layout.h).
 *
 * Letters: s source channel, d destination channel, l lane. All steps are in floats.
 */
#include "core/kernel/wino_layout.h"

int64_t wino_matrix_step(const struct conv_pass *p)
{
    return wino_form_of(p).src_phases * p->src_c * CONV_LANES + WINO_LINE;
}

int64_t wino_panel_step(const struct conv_pass *p)
{
    return wino_form_of(p).products * wino_matrix_step(p);
}

int64_t wino_phase_step(const struct conv_pass *p)
{
    return conv_panels(p->dst_c) * wino_panel_step(p);
}

size_t wino_packed_size(const struct conv_pass *p)
{
    return (size_t)(wino_form_of(p).dst_phases * wino_phase_step(p));
}

/* Row of the kernel that is tap `tap` of a phase, of the source or of the destination; -1: none. */
static int64_t kernel_row(const struct conv_axis *a, int64_t phase, int64_t tap)
{
    if (a->grad) {
        struct conv_taps t = conv_axis_taps(a, phase);
        return tap < t.count ? t.k_first + tap * t.k_step : -1;
    }
    int64_t row = phase + a->node_stride * tap;
    return row < a->kernel ? row : -1;
}

/* Where the taps of a phase lie in a filter [3][3]; -1: they are zero. */
static void find_taps(const struct conv_pass *p, int64_t phase, int64_t at[9])
{
    int64_t taps = wino_form_of(p).taps;

    for (int64_t i = 0; i < taps * taps; i++) {
        int64_t row = kernel_row(&p->y, phase / 2, i / taps);
        int64_t col = kernel_row(&p->x, phase % 2, i % taps);

        at[i] = row < 0 || col < 0 ? -1 : row * 3 + col;
    }
}

/* taps[.][16 lanes] of source channel s and a panel of destination channels from d on; lanes
 * without a channel, and taps that are none, are left alone. */
static void gather_taps(const struct conv_pass *p, const int64_t at[9], const float *w,
                        const float *scale, int64_t s, int64_t d, float taps[9 * CONV_LANES])
{
    int64_t count = wino_form_of(p).taps * wino_form_of(p).taps;

    for (int64_t l = 0; l < min_i64(CONV_LANES, p->dst_c - d); l++) {
        const float *from = w + 9 * (p->y.grad ? s * p->dst_c + d + l : (d + l) * p->src_c + s);
        const float factor = scale == NULL ? 1 : scale[p->y.grad ? s : d + l];

        for (int64_t i = 0; i < count; i++)
            if (at[i] >= 0)
                taps[i * CONV_LANES + l] = from[at[i]] * factor;
    }
}

/* The filters of one phase, of the source or of the destination; packed: its first panel. */
static void pack_phase(const struct wino *w, int64_t phase, const float *filters,
                       const float *scale, float *packed)
{
    const struct conv_pass *p = w->p;
    float taps[9 * CONV_LANES] = {0};
    int64_t at[9];

    find_taps(p, phase, at);
    for (int64_t i = w->span.first; i < w->span.end; i++)
        for (int64_t s = 0; s < p->src_c; s++) {
            gather_taps(p, at, filters, scale, s, i * CONV_LANES, taps);
            w->t->filter(taps, CONV_LANES, packed + i * wino_panel_step(p) + s * CONV_LANES,
                         wino_matrix_step(p));
        }
}

void wino_pack(const struct wino *w, const float *filters, const float *scale, float *packed)
{
    const struct wino_form f = wino_form_of(w->p);

    for (int64_t phase = 0; phase < f.src_phases; phase++)
        for (int64_t to = 0; to < f.dst_phases; to++)
            pack_phase(w, phase + to, filters, scale,
                       packed + phase * w->p->src_c * CONV_LANES + to * wino_phase_step(w->p));
}

/* dw[d + lane][s][tap] += the transformed sums of one phase of the source. */
static void add_phase(const struct wino *w, int64_t phase, const float *sum, float *dw)
{
    const struct conv_pass *p = w->p;
    int64_t count = wino_form_of(p).taps * wino_form_of(p).taps, at[9];
    float taps[9 * CONV_LANES];

    find_taps(p, phase, at);
    dw += wino_first_channel(w) * p->src_c * 9;
    for (int64_t d = 0; d < wino_span_channels(w); d += CONV_LANES, sum += wino_panel_step(p))
        for (int64_t s = 0; s < p->src_c; s++) {
            w->t->filter_grad(sum + s * CONV_LANES, wino_matrix_step(p), taps, CONV_LANES);
            for (int64_t l = 0; l < CONV_LANES; l++)
                for (int64_t i = 0; i < count; i++)
                    if (at[i] >= 0)
                        dw[((d + l) * p->src_c + s) * 9 + at[i]] += taps[i * CONV_LANES + l];
        }
}

void wino_add_filters(const struct wino *w, const float *sum, float *dw)
{
    for (int64_t phase = 0; phase < wino_form_of(w->p).src_phases; phase++)
        add_phase(w, phase, sum + phase * w->p->src_c * CONV_LANES, dw);
}
