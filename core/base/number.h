#ifndef CORE_BASE_NUMBER_H
#define CORE_BASE_NUMBER_H
/*
 * Numbers as people write them in options and specifications: "20", "0.03", "1e-4" and fractions
 * such as "8/255". Decimal only, finite only: no "nan", "inf", "0x10", no blanks.
 *
 *     double eps;
 *     if (!number_parse("8/255", &eps))
 *         return fail(...);                    // the caller names the option and the rule
 */
#include <stdbool.h>

/* False where text is something else, the divisor is 0 or the number is not finite. */
bool number_parse(const char *text, double *out);
#endif
