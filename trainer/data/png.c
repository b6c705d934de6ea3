/* PNG through libpng's simple interface: any kind of PNG to RGB of 8 bits on black. */
#include <string.h>

#include <png.h>

#include "core/base/mem.h"
#include "trainer/data/picture.h"

int picture_read_png(const uint8_t *data, size_t len, const char *what, struct picture *out)
{
    static const png_color black = {0, 0, 0};
    png_image image = {.version = PNG_IMAGE_VERSION};
    uint8_t *rgb = NULL;
    int rc = 0;

    if (!png_image_begin_read_from_memory(&image, data, len))
        return fail(ERR_DATA, "'%s': PNG: %s", what, image.message);
    if (!picture_fits(image.width, image.height))
        rc =
            fail(ERR_DATA, "'%s': PNG: %ux%u pixels are too many", what, image.width, image.height);
    image.format = PNG_FORMAT_RGB;
    if (rc == 0 && (rgb = mem_array((size_t)image.width * image.height, 3)) == NULL)
        rc = ERR_NOMEM;
    if (rc == 0 && !png_image_finish_read(&image, &black, rgb, 0, NULL))
        rc = fail(ERR_DATA, "'%s': PNG: %s", what, image.message);
    if (rc == 0)
        *out = (struct picture){(int32_t)image.height, (int32_t)image.width, rgb};
    else
        mem_free(rgb);
    png_image_free(&image);
    return rc;
}
