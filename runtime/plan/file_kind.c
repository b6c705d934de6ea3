/* First bytes of files that users mix up (file_kind.h). */
#include "runtime/plan/file_kind.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HEAD 64

struct kind {
    const char *bytes, *name;
};
static const struct kind kinds[] = {
    {"\x93NUMPY", "a NumPy array (.npy)"},
    {"linnetPB", "a bundle of linnet-pi preprocess"},
    {"linnetDC", "a correlation of linnet-pi deal"},
    {"-----BEGIN", "a PEM file (key or certificate)"},
    {"PK\x03\x04", "a zip archive (.npz, .zip)"},
    {"\x1f\x8b", "a gzip archive"},
    {"\x89PNG", "a PNG image"},
    {"\xff\xd8\xff", "a JPEG image"},
    {"\x7f"
     "ELF",
     "a program"},
    {"{", "a JSON text"},
    {"#!", "a script"},
    {0},
};

/* safetensors: eight bytes of length, then a JSON object. */
static bool is_safetensors(const uint8_t *head, size_t n)
{
    return n > 9 && head[7] == 0 && head[6] == 0 && head[8] == '{' && head[9] == '"';
}

static bool is_text(const uint8_t *head, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((head[i] < 32 || head[i] > 126) && head[i] != '\n' && head[i] != '\r' &&
            head[i] != '\t')
            return false;
    return true;
}

/* ModelProto: ir_version first, as every exporter writes it; then a short or a nested field. */
static bool is_onnx(const uint8_t *head, size_t n)
{
    return n > 3 && head[0] == 0x08 && head[1] >= 1 && head[1] <= 32 &&
           (head[2] == 0x12 || head[2] == 0x3a || head[2] == 0x42 || head[2] == 0x72);
}

const char *file_kind(const char *path)
{
    uint8_t head[HEAD];
    FILE *f = fopen(path, "rb");
    size_t n;

    if (f == NULL)
        return NULL;
    n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (n == 0)
        return "an empty file";
    for (const struct kind *k = kinds; k->bytes != NULL; k++)
        if (n >= strlen(k->bytes) && memcmp(head, k->bytes, strlen(k->bytes)) == 0)
            return k->name;
    if (is_safetensors(head, n))
        return "a safetensors file (model.pi.weights, checkpoint or teacher)";
    if (is_text(head, n))
        return "a text";
    return is_onnx(head, n) ? "an ONNX model" : NULL;
}
