#ifndef CORE_BASE_VALUE_H
#define CORE_BASE_VALUE_H
/* Values of options from their texts. ERR_ARG names option, text and rule; *out then stays. */
#include <stdint.h>

#include "core/base/mem.h"

/* A whole number. lo, hi: the allowed range; both 0: any. */
int value_int(const char *name, const char *text, double lo, double hi, int64_t *out) MUST_CHECK;
/* A number or a fraction (number.h). */
int value_real(const char *name, const char *text, double lo, double hi, double *out) MUST_CHECK;
/* The index of text among "word|word|word". */
int value_choice(const char *name, const char *text, const char *words, int32_t *out) MUST_CHECK;

/* The values of an option that may be given several times. */
struct value_texts {
    const char **v; /* in the arena */
    int32_t n;
};
/* Appends text, which must live as long as the arena. */
int value_add_text(struct arena *arena, const char *text, struct value_texts *list) MUST_CHECK;
#endif
