/* Image files: by their first bytes to the reader of the format. */
#include "trainer/data/picture.h"

#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"

bool picture_fits(size_t width, size_t height)
{
    return width > 0 && height > 0 && width <= PICTURE_MOST_PIXELS / height;
}

int picture_read_bytes(const uint8_t *data, size_t len, const char *what, struct picture *out)
{
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

    *out = (struct picture){0};
    if (len > 3 && data[0] == 0xff && data[1] == 0xd8)
        return picture_read_jpeg(data, len, what, out);
    if (len > sizeof png && memcmp(data, png, sizeof png) == 0)
        return picture_read_png(data, len, what, out);
    return fail(ERR_DATA, "'%s' is neither a JPEG nor a PNG file", what);
}

int picture_read(const char *path, struct picture *out)
{
    OWNED uint8_t *data = NULL;
    size_t len = 0;

    TRY(file_read(path, PICTURE_MOST_BYTES, &data, &len));
    return picture_read_bytes(data, len, path, out);
}

void picture_release(struct picture *p)
{
    mem_free(p->rgb);
    *p = (struct picture){0};
}
