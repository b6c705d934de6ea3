/*
 * Images as a data set shows them; see see.h. JPEG is always decoded at its full size: libjpeg's reduced
 * scales average in the frequency domain, which is not what decoding and then scaling gives.
 */
#include "trainer/data/see.h"

#include "trainer/data/draw.h"
#include "trainer/data/resize.h"

static int take_part(struct picture *p, const struct data_options *o, const struct data_view *view,
                     int64_t record)
{
    const struct picture_part part = draw_part(view, record, p->height, p->width);

    return picture_take(p, &part, o->crop_height, o->crop_width);
}

int picture_view(const struct data_options *o, const struct data_view *view, int64_t record,
                 struct picture *p)
{
    if (view->random)
        return take_part(p, o, view, record);
    if (o->resize > 0)
        TRY(picture_shorter_side(p, o->resize, o->bicubic ? RESIZE_BICUBIC : RESIZE_BILINEAR));
    return o->crop_height > 0 ? picture_crop(p, o->crop_height, o->crop_width) : 0;
}

int picture_see(const uint8_t *data, size_t len, const char *name, const struct data_options *o,
                const struct data_view *view, int64_t record, struct picture *out)
{
    TRY(picture_read_bytes(data, len, name, out));
    const int rc = picture_view(o, view, record, out);
    return rc == ERR_DATA ? fail_context(ERR_DATA, "'%s'", name) : rc; /* as the decoder does */
}

void picture_planes(const struct picture *p, uint8_t *chw)
{
    const size_t n = (size_t)p->height * (size_t)p->width;

    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            chw[c * n + i] = p->rgb[3 * i + c];
}

void picture_from_planes(const uint8_t *chw, struct picture *p)
{
    const size_t n = (size_t)p->height * (size_t)p->width;

    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            p->rgb[3 * i + c] = chw[c * n + i];
}
