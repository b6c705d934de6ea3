/*
 * The shared part of both command lines: one walk over argv against an option table, --config as a
 * second source for what the command line did not give, messages, exit codes, JSON.
 *
 * argp lays out --help and --usage (help.c); the walk is ours, so that every error is one sentence
 * that names the option, and so that "given on the command line" is known when --config is applied.
 */
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/help.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/file.h"
#include "core/base/json.h"

#define CONFIG_LIMIT ((size_t)1 << 20)
#define MESSAGE_BYTES 8192
#define RED "\033[1;31m"
#define YELLOW "\033[33m"
#define PLAIN "\033[0m"

/* ---- tables ------------------------------------------------------------------------------- */

#define COMMON(field) offsetof(struct cli_common, field)
static const struct cli_option common_option[] = {
    {"verbose", 'v', CLI_COUNT, COMMON(verbose), NULL, "more messages", 0, 0},
    {"quiet", 'q', CLI_FLAG, COMMON(quiet), NULL, "errors only", 0, 0},
    {"seed", 0, CLI_INT, COMMON(seed), "N", "seed of everything random (default 1)", 0, 9e15},
    {"threads", 0, CLI_INT, COMMON(threads), "N",
     "threads (default: OMP_NUM_THREADS, or all allowed cores)", 1, 1024},
    {"json", 0, CLI_OUTPUT, COMMON(json), "FILE", "write the result as JSON; - is stdout", 0, 0},
    {"progress", 0, CLI_CHOICE, COMMON(progress), "auto|bar|plain|none", "progress on stderr", 0,
     0},
    {"config", 0, CLI_INPUT, COMMON(config), "FILE.json",
     "read options from a JSON file, by their long names; the command line wins", 0, 0},
    {"help", '?', CLI_FLAG, COMMON(help), NULL, "this text", 0, 0},
    {"usage", 0, CLI_FLAG, COMMON(usage), NULL, "a short usage line", 0, 0},
    {"version", 'V', CLI_FLAG, COMMON(version), NULL, "name and version", 0, 0},
    {0},
};

/* One parse: two tables, each with the struct that its offsets refer to. */
struct parse {
    const struct cli_option *table[2];
    char *base[2];
    bool *given[2]; /* a flag per row: set by the command line */
    struct cli_common *common;
};
struct found {
    const struct cli_option *option;
    int which; /* table */
};

/* ---- suggestions -------------------------------------------------------------------------- */

#define EDIT_MAX 32
/* Edit distance of two words, EDIT_MAX if one is longer than that. */
static int edit_distance(const char *a, const char *b)
{
    int row[EDIT_MAX + 1];
    size_t na = strlen(a), nb = strlen(b);

    if (na > EDIT_MAX || nb > EDIT_MAX)
        return EDIT_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int up = row[j];
            int best = diagonal + (a[i - 1] != b[j - 1]);
            best = up + 1 < best ? up + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = up;
        }
    }
    return row[nb];
}

/* Keeps the nearer of *best and word; *distance starts at the largest distance worth a hint. */
static void suggest(const char *wanted, const char *word, const char **best, int *distance)
{
    int d = edit_distance(wanted, word);

    if (strlen(wanted) >= 3 && strncmp(word, wanted, strlen(wanted)) == 0)
        d = 1;
    if (d < *distance) {
        *distance = d;
        *best = word;
    }
}

/* ---- finding options ---------------------------------------------------------------------- */

static int unknown_option(const struct parse *p, const char *name)
{
    const char *best = NULL;
    int distance = 4;

    for (int w = 0; w < 2; w++)
        for (int32_t i = 0; i < cli_option_rows(p->table[w]); i++)
            suggest(name, p->table[w][i].name, &best, &distance);
    if (best != NULL)
        return fail(ERR_ARG, "unknown option '--%s'; did you mean '--%s'?", name, best);
    return fail(ERR_ARG, "unknown option '--%s'; --help lists them", name);
}

/* name has n characters; a unique beginning of a long name is enough. */
static int find_long(const struct parse *p, const char *name, size_t n, struct found *out)
{
    struct found hit = {0};
    int hits = 0;

    for (int w = 0; w < 2; w++)
        for (int32_t i = 0; i < cli_option_rows(p->table[w]); i++) {
            const struct cli_option *o = &p->table[w][i];
            if (strncmp(o->name, name, n) != 0)
                continue;
            hit = (struct found){o, w};
            if (o->name[n] == '\0') {
                *out = hit;
                return 0;
            }
            hits++;
        }
    if (hits > 1)
        return fail(ERR_ARG, "option '--%.*s' is ambiguous", (int)n, name);
    if (hits == 0) {
        char word[EDIT_MAX + 1];
        snprintf(word, sizeof word, "%.*s", (int)n, name);
        return unknown_option(p, word);
    }
    *out = hit;
    return 0;
}

static int find_letter(const struct parse *p, char letter, struct found *out)
{
    for (int w = 0; w < 2; w++)
        for (int32_t i = 0; i < cli_option_rows(p->table[w]); i++)
            if (p->table[w][i].letter == letter) {
                *out = (struct found){&p->table[w][i], w};
                return 0;
            }
    return fail(ERR_ARG, "unknown option '-%c'; --help lists them", letter);
}

static int set_found(struct parse *p, const struct found *f, const char *text)
{
    p->given[f->which][f->option - p->table[f->which]] = true;
    return cli_option_set(f->option, p->base[f->which], p->common->arena, text);
}

/* ---- the walk over argv ------------------------------------------------------------------- */

/* Takes the value that follows in argv; *i moves on. */
static int next_value(const struct cli_option *o, int argc, char **argv, int *i, const char **text)
{
    if (*i + 1 >= argc)
        return fail(ERR_ARG, "option '--%s' needs a value (%s)", o->name, o->arg);
    *text = argv[++*i];
    return 0;
}

static int parse_long(struct parse *p, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const char *text = NULL;
    struct found f = {0};

    TRY(find_long(p, name, n, &f));
    if (!cli_option_takes_value(f.option)) {
        if (equals != NULL)
            return fail(ERR_ARG, "option '--%s' takes no value", f.option->name);
    } else if (equals != NULL) {
        text = equals + 1;
    } else {
        TRY(next_value(f.option, argc, argv, i, &text));
    }
    return set_found(p, &f, text);
}

/* "-qv", "-o FILE", "-oFILE" */
static int parse_letters(struct parse *p, int argc, char **argv, int *i)
{
    for (const char *s = argv[*i] + 1; *s != '\0'; s++) {
        const char *text = NULL;
        struct found f = {0};
        TRY(find_letter(p, *s, &f));
        if (!cli_option_takes_value(f.option)) {
            TRY(set_found(p, &f, NULL));
            continue;
        }
        if (s[1] != '\0')
            text = s + 1;
        else
            TRY(next_value(f.option, argc, argv, i, &text));
        return set_found(p, &f, text);
    }
    return 0;
}

static int parse_argument(const struct cli_spec *spec, struct cli_common *c, const char *text)
{
    const int32_t most = strstr(spec->args, "...") != NULL ? CLI_MAX_ARGS : *spec->args != '\0';

    if (c->n_arg >= most)
        return fail(ERR_ARG, "unexpected argument '%s'%s%s", text, *spec->args ? "; expected " : "",
                    spec->args);
    c->arg[c->n_arg++] = text;
    return 0;
}

static int walk(struct parse *p, const struct cli_spec *spec, int argc, char **argv)
{
    bool options_ended = false;

    for (int i = 1; i < argc; i++) {
        const char *s = argv[i];
        if (options_ended || s[0] != '-' || s[1] == '\0')
            TRY(parse_argument(spec, p->common, s));
        else if (strcmp(s, "--") == 0)
            options_ended = true;
        else if (s[1] == '-')
            TRY(parse_long(p, argc, argv, &i));
        else
            TRY(parse_letters(p, argc, argv, &i));
    }
    return 0;
}

/* ---- --config ----------------------------------------------------------------------------- */

static int config_scalar(struct parse *p, const struct found *f, const json_t *v)
{
    const struct cli_option *o = f->option;
    const char *text = NULL;

    if (!cli_option_takes_value(o)) {
        if (!json_is_boolean(v))
            return fail(ERR_ARG, "config: '%s' is not true or false", o->name);
        return json_is_true(v) ? cli_option_set(o, p->base[f->which], NULL, NULL) : 0;
    }
    if (json_is_string(v))
        text = arena_strdup(p->common->arena, json_string_value(v));
    else if (json_is_integer(v))
        text = arena_printf(p->common->arena, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        text = arena_printf(p->common->arena, "%.17g", json_real_value(v));
    else
        return fail(ERR_ARG, "config: '%s' is neither a text nor a number", o->name);
    if (text == NULL)
        return ERR_NOMEM;
    return cli_option_set(o, p->base[f->which], p->common->arena, text);
}

static int config_entry(struct parse *p, const char *key, const json_t *v)
{
    struct found f = {0};
    size_t i;
    json_t *item;

    TRY(find_long(p, key, strlen(key), &f));
    if (p->given[f.which][f.option - p->table[f.which]])
        return 0;
    if (!json_is_array(v))
        return config_scalar(p, &f, v);
    if (f.option->kind != CLI_TEXTS)
        return fail(ERR_ARG, "config: '%s' takes one value, not a list", key);
    json_array_foreach(v, i, item) TRY(config_scalar(p, &f, item));
    return 0;
}

static int apply_config(struct parse *p, const char *path)
{
    OWNED uint8_t *bytes = NULL;
    SCOPED(json_decref_at) json_t *root = NULL;
    size_t len = 0;
    json_error_t error;
    const char *key;
    json_t *v;

    TRY(file_read(path, CONFIG_LIMIT, &bytes, &len));
    root = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL || !json_is_object(root))
        return fail(ERR_ARG, "config '%s': %s", path,
                    root == NULL ? error.text : "not a JSON object of options");
    json_object_foreach(root, key, v) TRY(config_entry(p, key, v));
    return 0;
}

/* ---- help --------------------------------------------------------------------------------- */

/* The version, and what of the CPU is used: two machines may differ in speed and in bits. */
static int print_version(const char *name)
{
    char text[CPU_TEXT];

    return printf("%s %s\nCPU: %s\n", name, LINNET_VERSION, cpu_describe(text)) < 0 ? ERR_IO : 0;
}

/* Prints what --help, --usage or --version ask for and leaves; otherwise does nothing. */
static int answer_and_leave(const struct cli_spec *spec, const struct cli_common *c,
                            const char *name)
{
    int rc;

    if (!c->help && !c->usage && !c->version)
        return 0;
    if (c->version)
        rc = print_version(name);
    else
        rc = cli_help(spec, common_option, c->arena, name, c->usage);
    if (rc == 0)
        exit(fflush(stdout) == 0 ? 0 : 1);
    return rc;
}

/* ---- files -------------------------------------------------------------------------------- */

/* The paths of a table's rows, as they were set. */
static int32_t list_paths(const struct parse *p, int which, struct cli_file *out)
{
    int32_t n = 0;

    for (int32_t i = 0; i < cli_option_rows(p->table[which]); i++) {
        const struct cli_option *o = &p->table[which][i];
        const bool is_path = o->kind == CLI_INPUT || o->kind == CLI_SOURCE ||
                             o->kind == CLI_OUTPUT || o->kind == CLI_FOLDER;
        const char *path = is_path ? *(const char *const *)(p->base[which] + o->offset) : NULL;

        if (path == NULL || (o->kind == CLI_OUTPUT && strcmp(path, "-") == 0))
            continue;
        out[n++] =
            (struct cli_file){arena_printf(p->common->arena, "--%s", o->name), path, o->kind};
    }
    return n;
}

/* Arguments are read by every command; the name of an architecture (init) is no file. */
static int check_files(const struct parse *p, const struct cli_spec *spec)
{
    const struct cli_common *c = p->common;
    const int32_t most = cli_option_rows(p->table[0]) + cli_option_rows(p->table[1]) + c->n_arg;
    struct cli_file *file = arena_array(c->arena, (size_t)most, sizeof *file);
    int32_t n = 0;

    if (file == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < c->n_arg; i++)
        file[n++] = (struct cli_file){spec->args, c->arg[i], CLI_TEXT};
    for (int w = 0; w < 2; w++)
        n += list_paths(p, w, file + n);
    for (int32_t i = 0; i < n; i++)
        if (file[i].what == NULL)
            return ERR_NOMEM;
    return cli_files_check(file, n);
}

/* ---- the shared parser -------------------------------------------------------------------- */

static int parse_all(struct parse *p, const struct cli_spec *spec, int argc, char **argv)
{
    struct cli_common *c = p->common;

    TRY(walk(p, spec, argc, argv));
    TRY(answer_and_leave(spec, c, argv[0]));
    if (c->config != NULL)
        TRY(apply_config(p, c->config));
    if (*spec->args != '\0' && c->n_arg == 0)
        return fail(ERR_ARG, "missing argument: expected %s; --help explains", spec->args);
    cpu_set_threads((int)c->threads);
    return check_files(p, spec);
}

int cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli_common *c,
              void *options)
{
    const size_t own = (size_t)cli_option_rows(spec->option),
                 common = (size_t)cli_option_rows(common_option);
    OWNED bool *given = mem_array(own + common + 1, sizeof *given);
    struct parse p = {{spec->option, common_option}, {options, (char *)c}, {given, given + own}, c};

    *c = (struct cli_common){.seed = CLI_DEFAULT_SEED};
    if (given == NULL)
        return ERR_NOMEM;
    TRY(arena_new(2 * CONFIG_LIMIT, &c->arena));
    return parse_all(&p, spec, argc, argv);
}

void cli_release(struct cli_common *c)
{
    arena_free(c->arena);
    c->arena = NULL;
}

/* ---- the program -------------------------------------------------------------------------- */

static const struct {
    int rc, exit_code;
} exit_codes[] = {
    {0, 0},        {ERR_ARG, 2},          {ERR_FORMAT, 3}, {ERR_LIMIT, 3},   {ERR_UNSUPPORTED, 3},
    {ERR_DATA, 4}, {ERR_VERIFY, 5},       {ERR_GOAL, 6},   {ERR_NUMERIC, 7}, {ERR_NET, 8},
    {ERR_PEER, 8}, {ERR_INTERRUPTED, 75},
};

int cli_exit_code(int rc)
{
    for (size_t i = 0; i < sizeof exit_codes / sizeof exit_codes[0]; i++)
        if (exit_codes[i].rc == rc)
            return exit_codes[i].exit_code;
    return 1;
}

int cli_as_data(int rc)
{
    if (rc != ERR_FORMAT && rc != ERR_LIMIT && rc != ERR_UNSUPPORTED)
        return rc;
    return ERR_DATA;
}

static void print_program_help(const struct cli_program *p, FILE *f)
{
    fprintf(f, "Usage: %s COMMAND [OPTION...]\n%s\n\nCommands:\n", p->name, p->doc);
    for (const struct command *c = p->command; c->name != NULL; c++)
        fprintf(f, "  %-10s  %s%s\n", c->name, c->help,
                c->run == NULL ? " (not in this version)" : "");
    fprintf(f, "\n'%s COMMAND --help' explains one command.\n", p->name);
}

/* Words that the program itself answers; false if `word` is none of them. */
static bool answer_program_option(const struct cli_program *p, const char *word)
{
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        print_version(p->name);
    else if (strcmp(word, "--usage") == 0)
        printf("Usage: %s COMMAND [OPTION...]\n", p->name);
    else if (strcmp(word, "--help") == 0 || strcmp(word, "-?") == 0)
        print_program_help(p, stdout);
    else
        return false;
    return true;
}

static int unknown_command(const struct cli_program *p, const char *word)
{
    const char *best = NULL;
    int distance = 4;

    for (const struct command *c = p->command; c->name != NULL; c++)
        suggest(word, c->name, &best, &distance);
    fprintf(stderr, "%s: unknown command '%s'", p->name, word);
    if (best != NULL)
        fprintf(stderr, "; did you mean '%s'?", best);
    fprintf(stderr, "\nTry '%s --help'.\n", p->name);
    return cli_exit_code(ERR_ARG);
}

/* Has the reader of our results left? */
static bool is_abandoned(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0;
}

/* Results may sit in a buffer: a full disk shows only here. */
static int flush_results(int rc)
{
    if ((fflush(stdout) != 0 || ferror(stdout)) && rc == 0)
        return fail(ERR_IO, "cannot write to standard output");
    return rc;
}

/* `linnet eval ... | head -n 1`: the work is done, the rest is not wanted. We end as whoever writes into a
 * closed pipe does. */
static void end_by_pipe(int rc)
{
    if (rc != ERR_IO || !ferror(stdout) || !is_abandoned())
        return;
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

static int run_command(const struct cli_program *p, const struct command *c, int argc, char **argv)
{
    char name[64];
    int rc;

    if (c->run == NULL) {
        fprintf(stderr, "%s: %s: not in this version\n", p->name, c->name);
        return cli_exit_code(ERR_ARG);
    }
    snprintf(name, sizeof name, "%s %s", p->name, c->name);
    argv[0] = name;
    rc = flush_results(c->run(argc, argv));
    end_by_pipe(rc);
    if (rc < 0)
        fprintf(stderr, "%s%s: %s:%s %s\n", cli_has_colour() ? RED : "", p->name, c->name,
                cli_has_colour() ? PLAIN : "", *err_message() ? err_message() : err_name(rc));
    return cli_exit_code(rc);
}

static int run_named(const struct cli_program *p, int argc, char **argv)
{
    for (const struct command *c = p->command; c->name != NULL; c++)
        if (strcmp(c->name, argv[0]) == 0)
            return run_command(p, c, argc, argv);
    return unknown_command(p, argv[0]);
}

/* A file that we open must not take the place of a standard stream that is closed: messages would go
 * into it. */
static int hold_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    return fd >= 0 ? close(fd) : fail(ERR_IO, "cannot open /dev/null: %s", strerror(errno));
}

static int end_help(int rc)
{
    end_by_pipe(rc);
    return rc < 0 ? 1 : 0;
}

void cli_wait_policy(const char *variable, const char *value, char **argv)
{
    char path[4096]; /* the file's own name, so that ps shows it */
    ssize_t n;

    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL)
        return;
    n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0 || setenv(variable, value, 0) < 0)
        return;
    path[n] = '\0';
    execv(path, argv);
}

int cli_main(const struct cli_program *program, int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* whoever reads our messages may leave; results are checked */
    if (hold_streams() < 0)
        return cli_exit_code(ERR_IO);
    if (argc < 2) {
        print_program_help(program, stderr);
        return cli_exit_code(ERR_ARG);
    }
    if (cpu_check() < 0) {
        fprintf(stderr, "%s: %s\n", program->name, err_message());
        return cli_exit_code(ERR_ARG);
    }
    const bool is_help = strcmp(argv[1], "help") == 0;
    if (answer_program_option(program, is_help && argc == 2 ? "--help" : argv[1]))
        return end_help(flush_results(0));
    if (is_help)
        return run_named(program, 2, (char *[]){argv[2], (char[]){"--help"}, NULL});
    return run_named(program, argc - 1, argv + 1);
}

/* ---- messages ----------------------------------------------------------------------------- */

FILE *cli_out(const struct cli_common *c)
{
    return c->json != NULL && strcmp(c->json, "-") == 0 ? stderr : stdout;
}

static void say(const char *fmt, va_list ap)
{
    char text[MESSAGE_BYTES];

    vsnprintf(text, sizeof text, fmt, ap);
    if (strstr(text, "warning") != NULL && cli_has_colour())
        fprintf(stderr, YELLOW "%s" PLAIN "\n", text);
    else
        fprintf(stderr, "%s\n", text);
}

void cli_note(const struct cli_common *c, const char *fmt, ...)
{
    va_list ap;

    if (c->quiet)
        return;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

void cli_detail(const struct cli_common *c, const char *fmt, ...)
{
    va_list ap;

    if (c->quiet || c->verbose == 0)
        return;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

/* ---- signals ------------------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted, caught; /* a handler has no other place */

static void on_signal(int sig)
{
    static const char text[] = "\nstopping after this step; a second signal ends the program\n";
    const int kept = errno;

    (void)sig;
    interrupted = 1;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        errno = kept; /* nobody listens */
    errno = kept;
}

/* One that is ignored (nohup) stays so. */
static void catch_signal(int sig)
{
    struct sigaction action = {.sa_handler = on_signal,
                               .sa_flags = (int)(SA_RESETHAND | SA_RESTART)},
                     old;

    sigemptyset(&action.sa_mask);
    if (sigaction(sig, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        sigaction(sig, &action, NULL);
}

void cli_catch_signals(void)
{
    if (caught)
        return;
    caught = 1;
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
    catch_signal(SIGHUP);
    catch_signal(SIGUSR1); /* what mpirun passes on, and batch systems send before the end */
}

bool cli_interrupted(void)
{
    cli_catch_signals();
    return interrupted != 0;
}

int cli_without_state(int rc)
{
    return rc == ERR_INTERRUPTED ? ERR_IO : rc;
}

/* ---- JSON --------------------------------------------------------------------------------- */

int cli_json_text(const struct cli_common *c, const char *text)
{
    if (c->json == NULL)
        return 0;
    if (strcmp(c->json, "-") != 0)
        return file_write_atomic(c->json, FILE_PUBLIC, text, strlen(text));
    if (fputs(text, stdout) < 0 || fflush(stdout) != 0)
        return fail(ERR_IO, "cannot write to standard output");
    return 0;
}

int cli_json_write(const struct cli_common *c, json_t *root)
{
    SCOPED(json_decref_at) json_t *own = root;

    if (own == NULL)
        return fail(ERR_NOMEM, "out of memory while making JSON");
    if (c->json == NULL)
        return 0;
    OWNED char *text = json_report(own);
    return text != NULL ? cli_json_text(c, text)
                        : fail(ERR_NOMEM, "out of memory while writing JSON");
}
