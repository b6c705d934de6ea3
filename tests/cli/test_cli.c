/* cli/cli: option tables, --config, suggestions, exit codes, JSON, help. */
#include "cli/cli.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include "core/base/json.h"

#include "tests/scratch.h"

struct options {
    const char *data;
    int64_t limit;
    double eps;
    struct value_texts attack;
    int32_t form;
    bool audit;
};
#define AT(field) offsetof(struct options, field)
static const struct cli_option table[] = {
    {"data", 'd', CLI_TEXT, AT(data), "SRC", "where the images are", 0, 0},
    {"limit", 0, CLI_INT, AT(limit), "N", "first N images", 1, 1e6},
    {"eps", 0, CLI_REAL, AT(eps), "X", "radius", 0, 1},
    {"attack", 'a', CLI_TEXTS, AT(attack), "SPEC", "an attack; may be repeated", 0, 0},
    {"form", 0, CLI_CHOICE, AT(form), "where|prelu|gather", "how a mask is written", 0, 0},
    {"audit", 'A', CLI_FLAG, AT(audit), NULL, "check gradients", 0, 0},
    {0},
};
static const struct cli_spec demo = {"MODEL", "What it does.", "demo eval m.onnx", table};
static const struct cli_spec several = {"DIR...", "What it does.", "demo eval a b", table};

#define MAX_WORDS 16
/* Splits words at blanks and parses them; the text must outlive c and o. */
static int parse_as(const struct cli_spec *spec, char *words, struct cli_common *c,
                    struct options *o)
{
    char *argv[MAX_WORDS] = {(char *)"demo eval"};
    int argc = 1;

    for (char *w = strtok(words, " "); w != NULL && argc < MAX_WORDS; w = strtok(NULL, " "))
        argv[argc++] = w;
    return cli_parse(spec, argc, argv, c, o);
}

static int parse_words(char *words, struct cli_common *c, struct options *o)
{
    return parse_as(&demo, words, c, o);
}

static void test_options_reach_their_fields(void **state)
{
    char words[] = "m.onnx -dsrc --limit=7 --eps 8/255 -a x --attack y --form gather -Avv second";
    struct options o = {0};
    struct cli_common c;

    (void)state;
    assert_int_equal(parse_as(&several, words, &c, &o), 0);
    assert_int_equal(c.n_arg, 2);
    assert_string_equal(c.arg[0], "m.onnx");
    assert_string_equal(c.arg[1], "second");
    assert_string_equal(o.data, "src");
    assert_int_equal(o.limit, 7);
    assert_true(o.eps == 8.0 / 255.0);
    assert_int_equal(o.attack.n, 2);
    assert_string_equal(o.attack.v[1], "y");
    assert_int_equal(o.form, 2);
    assert_true(o.audit);
    assert_int_equal(c.verbose, 2);
    assert_int_equal(c.seed, CLI_DEFAULT_SEED);
    cli_release(&c);
}

static void test_what_is_not_given_stays(void **state)
{
    char words[] = "--aud -- -m";
    struct options o = {.limit = -1, .data = "default"};
    struct cli_common c;

    (void)state;
    assert_int_equal(parse_words(words, &c, &o), 0);
    assert_string_equal(c.arg[0], "-m");
    assert_int_equal(o.limit, -1);
    assert_string_equal(o.data, "default");
    assert_true(o.audit); /* a unique beginning is enough */
    cli_release(&c);
}

static void test_mistakes_are_named(void **state)
{
    static const struct {
        const char *words, *message;
    } bad[] = {
        {"m --limti 3", "unknown option '--limti'; did you mean '--limit'?"},
        {"m --zzzzzzz 3", "unknown option '--zzzzzzz'; --help lists them"},
        {"m -z", "unknown option '-z'"},
        {"m --a x", "option '--a' is ambiguous"},
        {"m --limit", "option '--limit' needs a value (N)"},
        {"m -d", "option '--data' needs a value (SRC)"},
        {"m --limit x", "option '--limit': 'x' is not a whole number"},
        {"m --limit 3x", "option '--limit': '3x' is not a whole number"},
        {"m --limit 0", "option '--limit': 0 is outside 1 ... 1000000"},
        {"m --limit 99999999999999999999", "is not a whole number"},
        {"m --eps 2", "option '--eps': 2 is outside 0 ... 1"},
        {"m --eps nan", "is not a number"},
        {"m --eps 1/0", "is not a number"},
        {"m --eps 1/", "is not a number"},
        {"m --form wher", "option '--form': 'wher' is not one of where|prelu|gather"},
        {"m --audit=1", "option '--audit' takes no value"},
        {"m --threads 0", "option '--threads': 0 is outside"},
        {"a b", "unexpected argument 'b'; expected MODEL"},
        {"--audit", "missing argument: expected MODEL"},
        {"m --config /nonexistent/x.json", "/nonexistent/x.json"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char words[256];
        struct options o = {0};
        struct cli_common c;
        int rc;
        snprintf(words, sizeof words, "%s", bad[i].words);
        rc = parse_words(words, &c, &o);
        if (rc >= 0 || strstr(err_message(), bad[i].message) == NULL)
            fail_msg("'%s': %d '%s'", bad[i].words, rc, err_message());
        cli_release(&c);
    }
}

/* ---- --config ----------------------------------------------------------------------------- */

static int parse_with_config(const char *json, const char *words, struct cli_common *c,
                             struct options *o)
{
    static char line[SCRATCH_TEXT * 2]; /* cli_parse keeps pointers into it */
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    int rc;

    scratch_open(dir);
    scratch_path(dir, "c.json", path);
    scratch_write(path, json, strlen(json));
    snprintf(line, sizeof line, "m --config %s %s", path, words);
    rc = parse_words(line, c, o);
    scratch_close(dir);
    return rc;
}

static void test_config_fills_what_the_command_line_leaves(void **state)
{
    struct options o = {0};
    struct cli_common c;

    (void)state;
    assert_int_equal(
        parse_with_config(
            "{\"data\":\"src\",\"limit\":5,\"eps\":0.25,\"attack\":[\"x\",\"y\"],\"audit\":true,\"seed\":9}",
            "--limit 6", &c, &o),
        0);
    assert_string_equal(o.data, "src");
    assert_int_equal(o.limit, 6);
    assert_true(o.eps == 0.25 && o.audit);
    assert_int_equal(o.attack.n, 2);
    assert_int_equal(c.seed, 9);
    cli_release(&c);
}

static void test_command_line_replaces_a_list(void **state)
{
    struct options o = {0};
    struct cli_common c;

    (void)state;
    assert_int_equal(parse_with_config("{\"attack\":[\"x\",\"y\"]}", "--attack q", &c, &o), 0);
    assert_int_equal(o.attack.n, 1);
    assert_string_equal(o.attack.v[0], "q");
    cli_release(&c);
}

static void test_bad_config_is_refused(void **state)
{
    static const char *const bad[] = {"[1]", "{\"limit\":0}",   "{\"audit\":1}",
                                      "{",   "{\"unknown\":1}", "{\"limit\":[1]}",
                                      "",    "{\"data\":{}}",   "{\"limit\":1.5}"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct options o = {0};
        struct cli_common c;
        assert_int_equal(parse_with_config(bad[i], "", &c, &o), ERR_ARG);
        cli_release(&c);
    }
}

/* ---- programs, in a child process: help leaves by exit ------------------------------------- */

static int demo_run(int argc, char **argv)
{
    struct options o = {0};
    struct cli_common c;
    int rc = cli_parse(&demo, argc, argv, &c, &o);

    if (rc == 0)
        rc = (int)o.limit == 3 ? (fail)(ERR_GOAL, "goal missed by %d", 1) : 0;
    cli_release(&c);
    return rc;
}

/* Exit code; out: what both streams said. */
static int run_program(const char *words, char *out, size_t room)
{
    static const struct command commands[] = {
        {"eval", "evaluate", demo_run}, {"sweep", "later", NULL}, {0}};
    static const struct cli_program program = {"demo", "A demonstration.", commands};
    FILE *f = tmpfile();
    char line[256], *argv[MAX_WORDS + 1] = {(char *)"demo"};
    int argc = 1, status = 0;
    size_t n;
    pid_t pid;

    assert_non_null(f);
    snprintf(line, sizeof line, "%s", words);
    for (char *w = strtok(line, " "); w != NULL && argc < MAX_WORDS; w = strtok(NULL, " "))
        argv[argc++] = w;
    fflush(NULL);
    if ((pid = fork()) == 0) {
        dup2(fileno(f), STDOUT_FILENO);
        dup2(fileno(f), STDERR_FILENO);
        status = cli_main(&program, argc, argv);
        fflush(NULL);
        _exit(status);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    rewind(f);
    n = fread(out, 1, room - 1, f);
    out[n] = '\0';
    fclose(f);
    return WEXITSTATUS(status);
}

static void test_programs_answer(void **state)
{
    static const struct {
        const char *words;
        int exit_code;
        const char *said;
    } runs[] = {
        {"", 2, "Usage: demo COMMAND"},
        {"--help", 0, "sweep       later (not in this version)"},
        {"--version", 0, "demo " LINNET_VERSION},
        {"--usage", 0, "Usage: demo COMMAND"},
        {"evla", 2, "demo: unknown command 'evla'; did you mean 'eval'?"},
        {"sweep --x", 2, "demo: sweep: not in this version"},
        {"eval m", 0, ""},
        {"eval m --limit 3", 6, "demo: eval: goal missed by 1\n"},
        {"eval", 2, "demo: eval: missing argument"},
        {"eval --version", 0, "demo eval " LINNET_VERSION},
        {"eval --usage", 0, "Usage: demo eval"},
        {"eval --help", 0, "demo eval m.onnx"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        char out[8192];
        int code = run_program(runs[i].words, out, sizeof out);
        if (code != runs[i].exit_code || strstr(out, runs[i].said) == NULL)
            fail_msg("'%s': exit %d, '%s'", runs[i].words, code, out);
    }
}

static void test_exit_codes_follow_the_table(void **state)
{
    (void)state;
    assert_int_equal(cli_exit_code(0), 0);
    assert_int_equal(cli_exit_code(ERR_IO), 1);
    assert_int_equal(cli_exit_code(ERR_NOMEM), 1);
    assert_int_equal(cli_exit_code(ERR_ARG), 2);
    assert_int_equal(cli_exit_code(ERR_UNSUPPORTED), 3);
    assert_int_equal(cli_exit_code(cli_as_data(ERR_FORMAT)), 4);
    assert_int_equal(cli_exit_code(cli_as_data(ERR_IO)), 1);
    assert_int_equal(cli_exit_code(ERR_VERIFY), 5);
    assert_int_equal(cli_exit_code(ERR_NUMERIC), 7);
    assert_int_equal(cli_exit_code(ERR_PEER), 8);
    assert_int_equal(cli_exit_code(ERR_INTERRUPTED), 75);
}

/* ---- results and signals ------------------------------------------------------------------ */

static void test_json_is_sorted_and_exact(void **state)
{
    static const char want[] = "{\n  \"a\": null,\n  \"b\": 0.10000000000000001\n}\n";
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct cli_common c = {.json = path};

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "r.json", path);
    assert_int_equal(cli_json_write(&c, json_pack("{s:o, s:o}", "b", json_finite(0.1), "a",
                                                  json_finite((double)NAN))),
                     0);
    assert_true(scratch_holds(path, want, sizeof want - 1));
    assert_int_equal(cli_json_write(&c, NULL), ERR_NOMEM);
    c.json = NULL;
    assert_int_equal(cli_json_write(&c, json_object()), 0);
    scratch_close(dir);
}

static void test_results_give_way_to_json_on_stdout(void **state)
{
    struct cli_common c = {.json = "-"};

    (void)state;
    assert_ptr_equal(cli_out(&c), stderr);
    c.json = "file";
    assert_ptr_equal(cli_out(&c), stdout);
}

static void test_first_signal_only_raises_a_flag(void **state)
{
    (void)state;
    assert_false(cli_interrupted());
    cli_catch_signals();
    raise(SIGTERM);
    assert_true(cli_interrupted());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_reach_their_fields),
        cmocka_unit_test(test_what_is_not_given_stays),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_config_fills_what_the_command_line_leaves),
        cmocka_unit_test(test_command_line_replaces_a_list),
        cmocka_unit_test(test_bad_config_is_refused),
        cmocka_unit_test(test_programs_answer),
        cmocka_unit_test(test_exit_codes_follow_the_table),
        cmocka_unit_test(test_json_is_sorted_and_exact),
        cmocka_unit_test(test_results_give_way_to_json_on_stdout),
        cmocka_unit_test(test_first_signal_only_raises_a_flag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
