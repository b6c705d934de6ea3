#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H
/*
 * Little-endian numbers in memory: a reader that never leaves its bytes and a growing writer with
 * a hard maximum.
 *
 *     struct buf_reader r = buf_reader_on(data, len, "query message");
 *     uint32_t n;
 *     TRY(buf_get_u32(&r, &n));           // ERR_FORMAT names "query message" and the offset
 *
 *     struct buf_writer w = buf_writer_to(1 << 20);
 *     buf_put_u32(&w, n);                 // keeps the first error; puts after it do nothing
 *     int rc = buf_status(&w);            // 0: w.data[0 ... w.len) is complete
 *     buf_release(&w);
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* n <= 8 bytes as one number. */
uint64_t buf_number(const uint8_t *p, size_t n);
/* IEEE half precision: s eeeee mmmmmmmmmm. */
float buf_half(uint16_t half);

struct buf_reader {
    const uint8_t *data;
    size_t len, at;   /* at <= len */
    const char *what; /* names the bytes in messages */
};
/* Borrows data and what. */
struct buf_reader buf_reader_on(const void *data, size_t len, const char *what);
size_t buf_left(const struct buf_reader *r);
/* All getters: ERR_FORMAT if fewer bytes are left; then nothing is consumed or written. */
int buf_get_u8(struct buf_reader *r, uint8_t *v) MUST_CHECK;
int buf_get_u16(struct buf_reader *r, uint16_t *v) MUST_CHECK;
int buf_get_u32(struct buf_reader *r, uint32_t *v) MUST_CHECK;
int buf_get_u64(struct buf_reader *r, uint64_t *v) MUST_CHECK;
int buf_get_bytes(struct buf_reader *r, void *dst, size_t n) MUST_CHECK;
/* *view = the next n bytes, inside the reader's data; unaligned. */
int buf_get_view(struct buf_reader *r, size_t n, const uint8_t **view) MUST_CHECK;

struct buf_writer {
    uint8_t *data; /* owned, NULL while empty; the caller's of buf_writer_in */
    size_t len, cap;
    size_t limit; /* most bytes */
    int status;   /* 0 or the first error */
};
struct buf_writer buf_writer_to(size_t limit);
/* Into the caller's memory, for messages of a fixed size; nothing to release. */
struct buf_writer buf_writer_in(void *data, size_t size);
void buf_put_u8(struct buf_writer *w, uint8_t v);
void buf_put_u16(struct buf_writer *w, uint16_t v);
void buf_put_u32(struct buf_writer *w, uint32_t v);
void buf_put_u64(struct buf_writer *w, uint64_t v);
void buf_put_bytes(struct buf_writer *w, const void *src, size_t n);
int buf_status(const struct buf_writer *w) MUST_CHECK;
void buf_release(struct buf_writer *w); /* frees data */
#endif
