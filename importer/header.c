/*
 * Before the walk: what is no ONNX file at all, told by its first bytes, and the versions and size that
 * the header of a file states (importer/ONNX.md).
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/importer.h"
#include "importer/steps.h"

#define IR_OLDEST 3
#define IR_NEWEST 14
#define OPSET_OLDEST 7
#define OPSET_NEWEST 27

/* ---- what is no ONNX file at all ------------------------------------------------------------ */

static bool begins_with(const uint8_t *bytes, size_t len, size_t at, const char *text)
{
    return len >= at + strlen(text) && memcmp(bytes + at, text, strlen(text)) == 0;
}

/* The length of the JSON header in 8 bytes, here below 4 GiB, then that header. */
static bool is_safetensors(const uint8_t *bytes, size_t len)
{
    static const uint8_t head[] = {0, 0, 0, 0, '{', '"'};

    return len >= 4 + sizeof head && memcmp(bytes + 4, head, sizeof head) == 0;
}

/* What people give by mistake, by the bytes at an offset; offset -1: after white space. */
#define PLAN_AT(offset)                                                                            \
    {                                                                                              \
        offset, "\n\tlinnet.pi", "E1001",                                                          \
            "the plan of a private inference (model.pi), not an ONNX model",                       \
            "linnet-pi reads it; give linnet the ONNX file that was written beside it"             \
    }
static const struct {
    int offset;
    const char *magic, *code, *what, *hint;
} other_files[] = {
    {0, "version https://git-lfs", "E1002", "a Git LFS pointer, not the model",
     "run 'git lfs pull' in the repository it came from"},
    {-1, "<!DOCTYPE", "E1003", "a web page, not a model",
     "open the address in a browser and download the file itself"},
    {-1, "<!doctype", "E1003", "a web page, not a model",
     "open the address in a browser and download the file itself"},
    {-1, "<html", "E1003", "a web page, not a model",
     "open the address in a browser and download the file itself"},
    {-1, "<HTML", "E1003", "a web page, not a model",
     "open the address in a browser and download the file itself"},
    {0, "PK\003\004", "E1004", "a zip archive, not an ONNX model",
     "unpack it; a .pt, .pth or .keras file must be exported: torch.onnx.export, tf2onnx"},
    {0, "\x80\002", "E1001", "a Python pickle (an old .pth or .pt?), not an ONNX model",
     "load it in PyTorch and call torch.onnx.export"},
    {0, "\x89HDF\r\n", "E1001", "an HDF5 file (Keras .h5?), not an ONNX model",
     "load it in Keras and convert it with tf2onnx"},
    {4, "TFL3", "E1001", "a TensorFlow Lite model, not an ONNX model",
     "tf2onnx converts it: python -m tf2onnx.convert --tflite FILE"},
    {4, "ORTM", "E1005", "in ONNX Runtime's own .ort format",
     "give the .onnx file it was made from"},
    PLAN_AT(2), /* behind a tag and a length of one to three bytes */
    PLAN_AT(3),
    PLAN_AT(4),
    {0, "\x93NUMPY", "E1001", "a NumPy array, not a model", "give arrays by --data or --input"},
    {0, "\x1f\x8b", "E1001", "compressed by gzip", "unpack it with gunzip"},
};

int header_sniff(struct import *im, const uint8_t *bytes, size_t len)
{
    size_t at = 0;

    while (at < len && at < 64 && strchr(" \t\r\n", bytes[at]) != NULL && bytes[at] != '\0')
        at++;
    if (len == 0)
        return report_problem(im, "E1001", "", "the file is empty");
    if (len > IMPORT_MAX_FILE)
        return report_problem(im, "E1006", "store the weights as external data",
                              "the file has %zu bytes, at most %zu can be read", len,
                              IMPORT_MAX_FILE);
    for (size_t k = 0; k < sizeof other_files / sizeof *other_files; k++)
        if (begins_with(bytes, len, other_files[k].offset < 0 ? at : (size_t)other_files[k].offset,
                        other_files[k].magic))
            return report_problem(im, other_files[k].code, other_files[k].hint, "the file is %s",
                                  other_files[k].what);
    if (is_safetensors(bytes, len))
        return report_problem(im, "E1001",
                              "of a checkpoint of linnet, 'linnet export' makes an ONNX model",
                              "the file is a safetensors file, not an ONNX model");
    return 0;
}

/* ---- the header of the file ----------------------------------------------------------------- */

bool header_is_standard(const char *domain)
{
    return domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0;
}

static int check_opset(struct import *im)
{
    const Onnx__ModelProto *m = im->model;
    bool found = false;

    for (size_t k = 0; k < m->n_opset_import; k++) {
        if (!header_is_standard(m->opset_import[k]->domain))
            continue;
        if (found && m->opset_import[k]->version != im->opset)
            return report_problem(im, "E1009", "",
                                  "the standard operator set is imported in two versions");
        found = true;
        im->opset = m->opset_import[k]->version;
    }
    im->report->opset = im->opset;
    if (!found)
        return report_problem(im, "E1009", "", "the file does not say which operator set it uses");
    if (im->opset < OPSET_OLDEST)
        return report_problem(im, "E1009",
                              "convert it with onnx.version_converter, or export again",
                              "opset %lld is older than %d", (long long)im->opset, OPSET_OLDEST);
    if (im->opset > OPSET_NEWEST && !(im->opt != NULL && im->opt->allow_newer_opset))
        return report_warning(im, "opset %lld is newer than %d, the newest known",
                              (long long)im->opset, OPSET_NEWEST);
    return 0;
}

int header_check(struct import *im)
{
    const Onnx__ModelProto *m = im->model;

    im->report->ir_version = m->ir_version;
    if (m->graph == NULL)
        return report_problem(im, "E1001", "", "the file holds no graph, so it is no ONNX model");
    if (m->ir_version < IR_OLDEST)
        return report_problem(im, "E1008", "", "IR version %lld is older than %d",
                              (long long)m->ir_version, IR_OLDEST);
    if (m->ir_version > IR_NEWEST)
        TRY(report_warning(im, "IR version %lld is newer than %d, the newest known",
                           (long long)m->ir_version, IR_NEWEST));
    TRY(check_opset(im));
    if (m->n_training_info > 0)
        (void)report_problem(im, "E1011", "", "the file holds ONNX training information");
    if (m->graph->n_sparse_initializer > 0)
        (void)report_problem(im, "E1012", "", "the file holds sparse initializers");
    if (m->graph->n_node > IMPORT_MAX_NODES)
        return report_problem(im, "E1006", "", "the file has %zu nodes, at most %d",
                              m->graph->n_node, IMPORT_MAX_NODES);
    return 0;
}
