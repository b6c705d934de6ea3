/*
 * proto/onnx.proto against the official schema, by tests/onnx_proto_check.py. Runs from the
 * repository's root; skipped where protoc, python3 or its onnx package is missing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/scratch.h"

#define SKIPPED 77

static void test_schema_agrees_with_the_official_one(void **state)
{
    char folder[SCRATCH_TEXT], set[SCRATCH_TEXT], command[4 * SCRATCH_TEXT];
    int status;

    (void)state;
    if (system("command -v protoc >/dev/null 2>&1") != 0) {
        print_message("skipped: no protoc\n");
        skip();
    }
    scratch_open(folder);
    scratch_path(folder, "set", set);
    /* The first Python that has the package; the check itself exits with 77 if none has it. */
    snprintf(command, sizeof command,
             "protoc --proto_path=proto --descriptor_set_out=%s onnx.proto || exit 1\n"
             "for p in \"$LINNET_PYTHON\" build/venv/bin/python python3 /usr/bin/python3; do\n"
             "  \"$p\" -c 'import onnx' 2>/dev/null || continue\n"
             "  \"$p\" tests/onnx_proto_check.py %s; exit $?\n"
             "done\n"
             "echo 'skipped: no Python with the onnx package'; exit %d",
             set, set, SKIPPED);
    fflush(stdout);
    status = system(command);
    scratch_close(folder);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_agrees_with_the_official_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
