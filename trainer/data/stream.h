#ifndef TRAINER_DATA_STREAM_H
#define TRAINER_DATA_STREAM_H
/*
 * Images that stay where they are: a source gives any of them by its number, a stream reads ahead what it
 * was told will be asked for next.
 *
 *     struct stream *s = NULL;
 *     TRY(stream_new(&source, image_bytes, memory, threads, &s));    // owns the source from now on
 *     stream_ahead(s, &view, record, n);          // a hint: threads decode as far as the buffer goes
 *     TRY(stream_read(s, record[0], &view, out)); // waits for it, or decodes it itself
 *     stream_free(s);
 *
 * An image is a function of its record and the view alone. So neither threads nor the buffer nor what was
 * hinted change a bit of what stream_read gives; they change only who decodes it and when.
 */
#include <stdint.h>

#include "trainer/data/data.h"

/* Each function is thread safe but `release`. */
struct stream_source {
    void *ctx;
    /* Decodes one image to `out`, in the type and size of the data set. */
    int (*read)(const void *ctx, int64_t record, const struct data_view *view, void *out);
    /* What tells the record from another one without decoding it: a name, a size. */
    int (*identify)(const void *ctx, int64_t record, struct sha256 *h);
    void (*release)(void *ctx);
};
struct stream;
/* memory: bytes that the buffer may have, 0 for none. threads: that decode ahead. They start with the
 * first hint. The source is released too where this fails. */
int stream_new(const struct stream_source *source, size_t image_bytes, size_t memory, int threads,
               struct stream **out) MUST_CHECK;
void stream_free(struct stream *s); /* NULL is fine */
/* Images that the buffer holds at most. */
int64_t stream_capacity(const struct stream *s);
/* The next images that will be read, in this order; what was read ahead and is not among them is
 * forgotten. Never fails: what cannot be read ahead is read when it is asked for. */
void stream_ahead(struct stream *s, const struct data_view *view, const int64_t *record, int64_t n);
/* Thread safe. */
int stream_read(struct stream *s, int64_t record, const struct data_view *view,
                void *out) MUST_CHECK;
/* For tests: the most bytes of images that the buffer held so far; images that came from it. */
size_t stream_most_held(struct stream *s);
int64_t stream_hits(struct stream *s);
#endif
