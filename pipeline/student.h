#ifndef PIPELINE_STUDENT_H
#define PIPELINE_STUDENT_H
/* The student of a conversion: a copy of the teacher that loses ReLUs in the stages "mask" and
 * "finetune", its state in DIR/checkpoint.safetensors. */
#include "pipeline/conversion.h"

struct student {
    struct graph *g;
    struct model_form form;
};
/* Do the masks of o->masks keep what --relus says? want: -1 where it says nothing. */
int student_check_masks(const struct linearize_options *o, int64_t masked, int64_t want) MUST_CHECK;
/* c's teacher is trained and its quota shared; the quota ends as what the student keeps. Release in
 * every case. */
int student_train(struct student *s, struct conversion *c) MUST_CHECK;
void student_release(struct student *s);
#endif
