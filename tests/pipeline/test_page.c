/*
 * pipeline/page: what the report page shows of a folder, that texts of the folder stay texts, that the same
 * folder gives the same bytes, and that the page needs nothing from elsewhere.
 */
#include "pipeline/page/page.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/safetensors.h"
#include "pipeline/page/html.h"
#include "runtime/cost/cost.h"
#include "runtime/relu/relu.h"
#include "tests/plan_sample.h"
#include "tests/scratch.h"

#define PAGE_LIMIT ((size_t)1 << 20)

static const char report[] =
    "{\"format\":\"linnet.report/1\",\"seed\":3,\"notes\":[\"a <note>\"],"
    "\"budget\":{\"total\":200,\"kept\":40,\"evaluations\":50,\"layers\":["
    "{\"name\":\"first <script>alert(1)</script>\",\"total\":150,\"kept\":30,\"evaluations\":30},"
    "{\"name\":\"second & last\",\"total\":50,\"kept\":10,\"evaluations\":20}]},"
    "\"class_names\":[\"cat & dog\",\"other\"],\"config\":{\"recipe\":{\"adversarial\":\"on\"}},\"teacher\":{\"branches\":[{\"name\":\"clean\",\"clean\":{}}]},"
    "\"stages\":[{\"name\":\"teacher\",\"epochs\":2,\"seconds\":5,\"images_per_s\":100}],"
    "\"given\":{\"relus\":200,\"branches\":[{\"name\":\"clean\",\"deployed\":true,"
    "\"clean\":{\"accuracy\":91.25,\"ci95\":[90.75,91.75],\"n\":1000},\"attacks\":[]}]},"
    "\"result\":{\"relus\":40,\"agreement\":99.5,\"branches\":["
    "{\"name\":\"clean\",\"deployed\":true,\"clean\":{\"accuracy\":83.5,\"ci95\":[83,84],\"n\":1000,\"per_class\":[71.25,null]},"
    "\"attacks\":[{\"name\":\"pgd\",\"accuracy\":0.25,\"ci95\":[0,0.5],\"n\":400,"
    "\"parameters\":{\"eps\":0.03137,\"steps\":20}}],"
    "\"corruptions\":{\"mean\":70.5,\"n\":100,\"types\":1,\"source\":\"re-implementation\","
    "\"per_type\":{\"fog\":70.5}}},"
    "{\"name\":\"adv\",\"deployed\":false,\"clean\":{\"accuracy\":66.75,\"ci95\":[66,67.5],\"n\":1000},"
    "\"attacks\":[{\"name\":\"pgd\",\"accuracy\":27.5,\"ci95\":[27,28],\"n\":400}]}]}}";

static void put_file(const char *dir, const char *name, const char *text)
{
    char path[SCRATCH_TEXT];

    scratch_path(dir, name, path);
    assert_int_equal(file_write_atomic(path, FILE_PUBLIC, text, strlen(text)), 0);
}

static char *read_page(const char *path, size_t *len)
{
    uint8_t *bytes = NULL;
    char *text;

    assert_int_equal(file_read(path, (size_t)1 << 24, &bytes, len), 0);
    assert_non_null(text = mem_array(*len + 1, 1));
    memcpy(text, bytes, *len);
    mem_free(bytes);
    return text;
}

static void put_checkpoint(const char *dir)
{
    static float mask[2 * 4 * 6], flat[8];
    const int64_t dim[] = {2, 4, 6}, eight[] = {8};
    struct st_writer *w = NULL;
    char path[SCRATCH_TEXT];

    for (int i = 0; i < 48; i++)
        mask[i] = i % 3 == 0;
    scratch_path(dir, "checkpoint.safetensors", path);
    assert_int_equal(st_writer_new(&w), 0);
    assert_int_equal(
        st_writer_add(w, "mask:first <script>alert(1)</script>.mask", ST_F32, 3, dim, mask), 0);
    assert_int_equal(st_writer_add(w, "mask:second & last.mask", ST_F32, 1, eight, flat), 0);
    assert_int_equal(st_writer_add(w, "param:w", ST_F32, 1, eight, flat), 0);
    assert_int_equal(st_writer_save(w, path, FILE_PUBLIC), 0);
    st_writer_free(w);
}

static void remove_all(const char *dir)
{
    static const char *const name[] = {"report.json", "metrics.jsonl", "checkpoint.safetensors",
                                       "page.html",   "again.html",    "sweep.json"};
    char path[SCRATCH_TEXT];

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        scratch_path(dir, name[i], path);
        remove(path);
    }
    scratch_close((char *)dir);
}

static void test_page_shows_the_folder(void **state)
{
    char dir[SCRATCH_TEXT], page[SCRATCH_TEXT], again[SCRATCH_TEXT];
    const char *folder[] = {dir};
    char *text, *other;
    size_t len, len2;

    (void)state;
    scratch_open(dir);
    put_file(dir, "report.json", report);
    put_file(
        dir, "metrics.jsonl",
        "{\"event\":\"epoch\",\"stage\":\"teacher\",\"epoch\":1,\"loss\":2.5,\"val\":{\"clean\":0.5,"
        "\"pgd\":0.25}}\n{\"event\":\"epoch\",\"stage\":\"teacher\",\"epoch\":2,\"loss\":1.5,"
        "\"val\":{\"clean\":0.75}}\n{\"event\":\"epo");
    put_checkpoint(dir);
    scratch_path(dir, "page.html", page);
    scratch_path(dir, "again.html", again);
    assert_int_equal(page_write(folder, 1, page), 0);
    assert_int_equal(page_write(folder, 1, again), 0);
    text = read_page(page, &len);
    other = read_page(again, &len2);
    assert_int_equal(len, len2);
    assert_memory_equal(text, other, len);
    assert_true(len < PAGE_LIMIT);
    /* the verdict and the table: every file's own figures */
    assert_non_null(strstr(text, "40 of 200 ReLUs</b> (20.0 %)"));
    assert_non_null(strstr(text, "<b>50 ReLU evaluations</b>, two for a ReLU6"));
    assert_non_null(
        strstr(text, "<td class=\"n of\">50</td><td class=n>20.0 %</td><td class=n>20</td>"));
    assert_non_null(strstr(text, "<b>83.50 %</b>, 91.25 % as given"));
    assert_non_null(strstr(text, "Under PGD-20: <b>0.25 %</b>"));
    assert_non_null(strstr(text, "66.75 <small>&plusmn;0.75</small>"));
    assert_non_null(strstr(text, "27.50"));
    assert_non_null(strstr(text, "<th>robust teacher</th>"));
    assert_non_null(
        strstr(text, "<th>0 cat &amp; dog</th><td class=n>-</td><td class=n>71.25</td>"));
    assert_non_null(strstr(text, "<th>1 other</th><td class=n>-</td><td class=n>-</td>"));
    /* texts of the folder stay texts */
    assert_null(strstr(text, "<script>alert"));
    assert_non_null(strstr(text, "first &lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_non_null(strstr(text, "second &amp; last"));
    assert_non_null(strstr(text, "\\u003cscript>alert"));
    /* two maps, a curve with both epochs, nothing from elsewhere */
    assert_non_null(strstr(text, "2 x 4 x 6, 33.3 % kept"));
    assert_non_null(strstr(text, "1 x 1 x 8, 0.0 % kept"));
    assert_non_null(strstr(text, "Clean: n 1,000. PGD: L-infinity, eps 8/255, 20 steps, n 400."));
    assert_non_null(strstr(text, ">epoch 2</text>"));
    assert_non_null(strstr(text, "M259.0 12.0L470.0 95.2")); /* loss 2.5 of 2.5, then 1.5 */
    assert_null(strstr(text, "http"));
    assert_null(strstr(text, "src=\"/"));
    mem_free(text);
    mem_free(other);
    remove_all(dir);
}

/* text with every `from` as `to`; mem_free. */
static char *with(const char *text, const char *from, const char *to)
{
    char *out = mem_array(4 * strlen(text) + 1, 1), *at = out;

    for (const char *hit; (hit = strstr(text, from)) != NULL; text = hit + strlen(from)) {
        memcpy(at, text, (size_t)(hit - text));
        at += hit - text;
        at = stpcpy(at, to);
    }
    strcpy(at, text);
    return out;
}

static char *page_of(const char *dir, const char *json)
{
    const char *folder[] = {dir};
    char page[SCRATCH_TEXT];
    size_t len;

    put_file(dir, "report.json", json);
    scratch_path(dir, "page.html", page);
    assert_int_equal(page_write(folder, 1, page), 0);
    return read_page(page, &len);
}

/* Figures of a private query are the cost model's: loopback seconds, 8 bits a byte, half a round trip a
 * message, forms those for the link; the sentence takes the backend with fewer seconds online. */
static void test_private_inference_is_the_cost_model(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], want[512];
    struct plan *p = plan_sample(40);
    struct plan_weights *w = plan_sample_weights(p, 1);
    struct link lan, wan;

    (void)state;
    scratch_open(dir);
    assert_int_equal(
        plan_write(p, w, scratch_path(dir, "model.pi", path), scratch_path(dir, "w", want)), 0);
    char *text = page_of(dir, report);
    assert_int_equal(link_parse("lan", &lan), 0);
    assert_int_equal(link_parse("wan", &wan), 0);
    double best[2] = {INFINITY, INFINITY};
    for (const struct relu_backend *const *b = relu_backends(); *b != NULL; b++) {
        for (int i = 0; i < 2; i++) {
            const struct cost_case k = {
                .relu = *b, .link = link_loopback(), .expected = i == 0 ? &lan : &wan};
            struct cost c;
            assert_int_equal(cost_estimate(p, &k, &c), 0);
            const double rate = i == 0 ? 3e9 : 400e6, rtt = i == 0 ? 0.3e-3 : 40e-3;
            const double s =
                c.online_seconds + 8 * (double)c.online_bytes / rate + c.online_messages * rtt / 2;
            snprintf(want, sizeof want, "<td class=n>%.3f s <small>%.1f MB</small></td>", s,
                     (double)c.online_bytes / 1e6);
            assert_non_null(strstr(text, want));
            snprintf(want, sizeof want, " %.9g %.9g %d", c.online_seconds, (double)c.online_bytes,
                     c.online_messages); /* the slider's */
            assert_non_null(strstr(text, want));
            best[i] = fmin(best[i], s);
        }
    }
    for (int i = 0; i < 2; i++) {
        snprintf(want, sizeof want, "on a %s <b>%.3f s, ", i == 0 ? "LAN" : "WAN", best[i]);
        assert_non_null(strstr(text, want));
    }
    mem_free(text);
    plan_weights_free(w);
    plan_free(p);
    unlink(path);
    unlink(scratch_path(dir, "w", path));
    remove_all(dir);
}

/* A result that guesses, one that lost much, one that did not. */
static void test_far_below_what_was_given(void **state)
{
    static const char ten[] = "\"per_class\":[1,2,3,4,5,6,7,8,9,10]";
    char dir[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    char *classes = with(report, "\"per_class\":[71.25,null]", ten);
    char *guess = with(classes, "\"accuracy\":83.5", "\"accuracy\":13.5");
    char *lost = with(classes, "\"accuracy\":83.5", "\"accuracy\":61.25");
    char *text = page_of(dir, guess);
    assert_non_null(strstr(text, "about what guessing one of 10 classes gives"));
    mem_free(text);
    text = page_of(dir, lost);
    assert_non_null(strstr(text, "It lost 30.0 points of clean accuracy"));
    assert_null(strstr(text, "guessing"));
    mem_free(text);
    text = page_of(dir, classes);
    assert_null(strstr(text, "It lost"));
    assert_null(strstr(text, "guessing"));
    mem_free(text);
    mem_free(classes);
    mem_free(guess);
    mem_free(lost);
    remove_all(dir);
}

/* A run of a sweep, whose given file stands in the sweep alone. */
static void test_accuracy_without_a_given_file(void **state)
{
    char dir[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    char *alone = with(report, "\"given\":", "\"elsewhere\":");
    char *text = page_of(dir, alone);
    assert_non_null(strstr(text, "Clean accuracy: <b>83.50 %</b>. Under PGD-20"));
    assert_non_null(strstr(text, " A &lt;note&gt;.</p>"));
    mem_free(text);
    mem_free(alone);
    remove_all(dir);
}

/* The point of a run on the Pareto curve is its deployed file, whichever row that is. */
static void test_points_are_the_deployed_files(void **state)
{
    char dir[2][SCRATCH_TEXT], page[SCRATCH_TEXT];
    const char *folder[] = {dir[0], dir[1]};
    size_t len;

    (void)state;
    char *first = with(report, "\"name\":\"clean\",\"deployed\":true,\"clean\":{\"accuracy\":83.5",
                       "\"name\":\"clean\",\"deployed\":false,\"clean\":{\"accuracy\":83.5");
    char *adv =
        with(first, "\"name\":\"adv\",\"deployed\":false", "\"name\":\"adv\",\"deployed\":true");
    char *fewer = with(report, "\"relus\":40", "\"relus\":20");
    for (int i = 0; i < 2; i++) {
        scratch_open(dir[i]);
        put_file(dir[i], "report.json", i == 0 ? adv : fewer);
    }
    scratch_path(dir[0], "page.html", page);
    assert_int_equal(page_write(folder, 2, page), 0);
    char *text = read_page(page, &len);
    assert_non_null(strstr(text, ": clean 66.75 %</title>"));
    assert_non_null(strstr(text, ": clean 83.50 %</title>"));
    assert_non_null(strstr(text, ": PGD 27.50 %</title>"));
    mem_free(text);
    mem_free(first);
    mem_free(adv);
    mem_free(fewer);
    remove_all(dir[0]);
    remove_all(dir[1]);
}

/* A white pixel beside a black one, as every PNG reader wants it: 75 bytes, checked once by hand with
 * another program. */
static void test_png_is_what_readers_expect(void **state)
{
    static const uint8_t pixel[] = {255, 0};
    struct html h = {0};

    (void)state;
    html_put_png(&h, pixel, 1, 2);
    assert_int_equal(h.status, 0);
    assert_string_equal(h.text,
                        "src=\"data:image/png;base64,"
                        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAADklEQVR4AQEDAPz/AP8AAgEB"
                        "AIlSUwAAAAAASUVORK5CYII="
                        "\"");
    html_free(&h);
}

static void test_damaged_folders_are_refused_by_name(void **state)
{
    char dir[SCRATCH_TEXT], page[SCRATCH_TEXT];
    const char *folder[] = {dir};

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "page.html", page);
    assert_int_equal(page_write(folder, 1, page), ERR_IO);
    assert_non_null(strstr(err_message(), "report.json"));
    put_file(dir, "report.json", "{\"format\":");
    assert_int_equal(page_write(folder, 1, page), ERR_FORMAT);
    put_file(dir, "report.json", "{\"format\":\"linnet.eval/1\"}");
    assert_int_equal(page_write(folder, 1, page), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "linnet.report/1"));
    put_file(dir, "report.json", report);
    put_file(dir, "sweep.json",
             "{\"format\":\"linnet.sweep/1\",\"budgets\":[{\"folder\":\"../elsewhere\"}]}");
    assert_int_equal(page_write(folder, 1, page), ERR_FORMAT);
    assert_int_equal(page_write(folder, 0, page), ERR_ARG);
    assert_int_not_equal(remove(page), 0); /* nothing was written */
    remove_all(dir);
}

/* A report that says nothing still makes a page. */
static void test_an_empty_report_makes_a_page(void **state)
{
    char dir[SCRATCH_TEXT], page[SCRATCH_TEXT];
    const char *folder[] = {dir};

    (void)state;
    scratch_open(dir);
    put_file(dir, "report.json", "{\"format\":\"linnet.report/1\",\"budget\":7,\"result\":[1]}");
    scratch_path(dir, "page.html", page);
    assert_int_equal(page_write(folder, 1, page), 0);
    remove_all(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_shows_the_folder),
        cmocka_unit_test(test_private_inference_is_the_cost_model),
        cmocka_unit_test(test_far_below_what_was_given),
        cmocka_unit_test(test_accuracy_without_a_given_file),
        cmocka_unit_test(test_points_are_the_deployed_files),
        cmocka_unit_test(test_png_is_what_readers_expect),
        cmocka_unit_test(test_damaged_folders_are_refused_by_name),
        cmocka_unit_test(test_an_empty_report_makes_a_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
