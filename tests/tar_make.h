#ifndef TESTS_TAR_MAKE_H
#define TESTS_TAR_MAKE_H
/* Tar files in memory, member by member (ustar), also wrong ones. With cmocka assertions inside. */
#include <stddef.h>
#include <stdint.h>

struct tar_make {
    uint8_t *v;
    size_t n, last; /* bytes; where the last header begins */
};
/* kind: '0' file, '2' symbolic link, '5' folder, 'L' GNU long name, 'x' pax, ... */
void tar_put(struct tar_make *t, const char *name, char kind, const void *data, size_t n);
/* A sample of WebDataset: KEY.cls and KEY.jpg, a JPEG of height x width pixels, grey on the left
 * and 255 - grey on the right. */
void tar_put_sample(struct tar_make *t, const char *key, int label, uint8_t grey, int height,
                    int width);
void tar_end(struct tar_make *t);
/* The checksum of the header at this byte, after it was changed. */
void tar_sum(struct tar_make *t, size_t header);
void tar_write(const struct tar_make *t, const char *path);
void tar_release(struct tar_make *t);
#endif
