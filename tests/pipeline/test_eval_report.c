/*
 * The JSON of an evaluation against figures by hand: means over what was run and nothing else, null where
 * nothing was, which branch is deployed, what an attack was.
 */
#include "pipeline/eval_report.h"

#include <math.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static double number(const json_t *from, const char *key)
{
    const json_t *v = json_object_get(from, key);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void expect_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9))
        fail_msg("%.12g, not %.12g", got, want);
}

static struct eval_score score(int64_t n, double accuracy)
{
    return (struct eval_score){n, (int64_t)(accuracy * (double)n), accuracy, accuracy - 0.01,
                               accuracy + 0.02};
}

/* Two branches; the second one deployed. Fog at severities 1 and 4, snow at 4. */
static struct eval_result *result(void)
{
    struct eval_result *r = mem_array(1, sizeof *r);
    struct eval_branch *b = &r->branch[0];

    r->n = 50;
    r->n_branch = 2;
    r->branch[1].branch = 1;
    r->branch[1].clean = score(50, 0.5);
    b->clean = score(50, 0.75);
    b->n_class = 3;
    b->class_n[0] = 20, b->class_correct[0] = 15;
    b->class_n[2] = 30, b->class_correct[2] = 12;
    b->n_corruption = 2;
    b->corruption[0].type = "fog";
    b->corruption[0].score[0] = score(40, 0.9);
    b->corruption[0].score[3] = score(40, 0.5);
    b->corruption[1].type = "snow";
    b->corruption[1].score[3] = score(40, 0.3);
    b->corruption_mean = score(120, 0.6);
    b->n_attack = 1;
    b->attack[0].score = score(50, 0.25);
    (void)!attack_spec_parse("pgd:eps=4/255,alpha=0.01,steps=7,restarts=2", &b->attack[0].spec);
    return r;
}

static void test_means_are_of_what_was_run(void **state)
{
    const struct model_branches names = {.name = {"clean", "adv"}, .deployed = 1};
    struct eval_result *r = result();
    json_t *root = eval_report_json("m.onnx", "test", &names, r);
    const json_t *list = json_object_get(root, "branches");
    const json_t *b = json_array_get(list, 0), *c = json_object_get(b, "corruptions");

    (void)state;
    assert_non_null(root);
    assert_int_equal(json_array_size(list), 2);
    assert_true(json_is_false(json_object_get(b, "deployed")));
    assert_true(json_is_true(json_object_get(json_array_get(list, 1), "deployed")));
    expect_near(number(json_object_get(b, "clean"), "accuracy"), 75);
    const json_t *ci = json_object_get(json_object_get(b, "clean"), "ci95");
    expect_near(json_number_value(json_array_get(ci, 0)), 74);
    expect_near(json_number_value(json_array_get(ci, 1)), 77);
    const json_t *each = json_object_get(json_object_get(b, "clean"), "per_class");
    expect_near(json_number_value(json_array_get(each, 0)), 75);
    assert_true(json_is_null(json_array_get(each, 1)));
    expect_near(json_number_value(json_array_get(each, 2)), 40);
    expect_near(number(c, "mean"), 60);
    expect_near(number(json_object_get(c, "per_type"), "fog"), 70);
    expect_near(number(json_object_get(c, "per_type"), "snow"), 30);
    expect_near(number(json_object_get(c, "per_severity"), "1"), 90);
    expect_near(number(json_object_get(c, "per_severity"), "4"), 40);
    assert_null(json_object_get(json_object_get(c, "per_severity"), "2"));
    const json_t *fog = json_object_get(json_object_get(c, "per_type_severity"), "fog");
    assert_int_equal(json_array_size(fog), 5);
    expect_near(json_number_value(json_array_get(fog, 3)), 50);
    assert_true(json_is_null(json_array_get(fog, 1)));
    const json_t *a = json_array_get(json_object_get(b, "attacks"), 0);
    const json_t *p = json_object_get(a, "parameters");
    expect_near(number(a, "accuracy"), 25);
    expect_near(number(p, "eps"), 4.0 / 255);
    expect_near(number(p, "alpha"), 0.01);
    expect_near(number(p, "steps"), 7);
    expect_near(number(p, "restarts"), 2);
    json_decref(root);
    mem_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_means_are_of_what_was_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
