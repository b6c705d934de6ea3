/* Removes most ReLUs of an ONNX classifier, then attacks the result:
 *     cc convert.c $(pkg-config --cflags --libs linnet) -o convert
 *     ./convert model.onnx cifar10:DIR 10% out quick
 * out/ then holds model.onnx and, among others, the private-inference package model.pi. */
#include <linnet.h>
#include <stdio.h>

static void on_message(void *ctx, enum linnet_level level, const char *text)
{
    if (level == LINNET_NOTE)
        fprintf(ctx, "%s\n", text);
}

static int convert(const char *model, char **arg, const struct linnet_listener *l)
{
    struct linnet_options *o = NULL;
    int rc = linnet_options_new("linearize", &o);

    if (rc == 0 && (rc = linnet_options_set(o, "data", arg[0])) == 0 &&
        (rc = linnet_options_set(o, "relus", arg[1])) == 0 &&
        (rc = linnet_options_set(o, "output", arg[2])) == 0 &&
        (rc = linnet_options_set(o, "preset", arg[3])) == 0)
        rc = linnet_linearize(model, o, l, NULL);
    linnet_options_free(o);
    return rc;
}

static int attack(const char *model, const char *data, double *clean, double *robust)
{
    struct linnet_options *o = NULL;
    struct linnet_model *m = NULL;
    struct linnet_report *r = NULL;
    int rc = linnet_options_new("eval", &o);

    if (rc == 0 && (rc = linnet_options_set(o, "data", data)) == 0 &&
        (rc = linnet_options_set(o, "attack", "pgd:eps=8/255,steps=20")) == 0 &&
        (rc = linnet_open(model, o, NULL, &m)) == 0 &&
        (rc = linnet_evaluate(m, o, NULL, &r)) == 0 &&
        (rc = linnet_report_number(r, "branches/0/clean/accuracy", clean)) == 0)
        rc = linnet_report_number(r, "branches/0/attacks/0/accuracy", robust);
    linnet_report_free(r);
    linnet_close(m);
    linnet_options_free(o);
    return rc;
}

int main(int argc, char **argv)
{
    const struct linnet_listener listener = {.ctx = stderr, .message = on_message};
    double clean, robust;
    char path[1024];

    if (argc != 6)
        return fprintf(stderr, "usage: %s MODEL DATA RELUS DIR PRESET\n", argv[0]), 2;
    snprintf(path, sizeof path, "%s/model.onnx", argv[4]);
    if (convert(argv[1], argv + 2, &listener) < 0 || attack(path, argv[2], &clean, &robust) < 0)
        return fprintf(stderr, "%s: %s\n", argv[0], linnet_message()), 1;
    printf("%s: clean %.2f %%, under PGD-20 %.2f %%\n", path, clean, robust);
    return 0;
}
