#ifndef RUNTIME_PLAN_SCHEDULE_H
#define RUNTIME_PLAN_SCHEDULE_H
/*
 * What a two-party run of a plan has to do together, in program order: linear steps (offline only)
 * and batches of selections (offline and online). Both parties derive it from the public plan, so
 * every message size and every piece of prepared material follows from it.
 *
 * A ReLU step that keeps k > 0 positions is one batch of k, or with a cap of 2k: first all x, then all
 * x - cap; one that keeps none is no event. A max pool
 * is a tournament: every level compares neighbours of all windows at once, one batch a level. With
 * `label` the class is found by one more tournament over the outputs, whose batches carry the index
 * as second payload.
 */
#include <stdbool.h>
#include <stdint.h>

#include "runtime/plan/plan.h"

/*
 * How a backend compares, public, chosen from the link. "ot": the lower m-1 bits are cut into digits, the
 * lowest first, whose results meet in a tree of ANDs or all at once; transfers come from OT extension
 * or from silent OT. "gc": whether labels travel in pairs (garble.h). All zero: digits of 4 bits, a tree, OT
 * extension; each label on its own.
 */
#define RELU_MOST_DIGITS 20
struct relu_form {
    uint8_t one_shot, silent_down, silent_up; /* 0 or 1; down: the server sends */
    uint8_t digits;                           /* 0: all of 4 bits */
    uint8_t bits[RELU_MOST_DIGITS];           /* of each digit */
    uint8_t paired;                           /* 0 or 1 */
};
/* n selections at once: of comparison width m, each with p payloads (relu.h says what they do). */
struct relu_batch {
    int64_t n;
    int32_t width;    /* m: 4q+1, 21 ... 61; any from 5 on where form.digits says how */
    int32_t payloads; /* p */
    uint64_t tweak;   /* unique per batch of a connection and bundle: keys the hashes */
    struct relu_form form;
    bool tagged; /* the client's results carry tags, for a client that may deviate (backend gc) */
};
enum event_kind { EVENT_LINEAR, EVENT_SELECT };
struct event {
    enum event_kind kind;
    int32_t step;            /* n_step of the plan: the argmax after the last step */
    int64_t inputs, outputs; /* of a linear step, elements */
    struct relu_batch batch; /* of selections; tweak: the event's number */
};
struct schedule {
    const struct plan *plan;
    bool label;
    int64_t results; /* words revealed at the end: classes, or 1 */
    struct event *event;
    int32_t n;
};
/* Borrows the plan. ERR_LIMIT where a batch is too large. */
int schedule_new(const struct plan *p, bool label, struct schedule **out) MUST_CHECK;
void schedule_free(struct schedule *s); /* NULL is fine */
FREE_AT(schedule_free, struct schedule)
#endif
