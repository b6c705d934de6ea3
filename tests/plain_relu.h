#ifndef TESTS_PLAIN_RELU_H
#define TESTS_PLAIN_RELU_H
/* A comparison backend without any secrecy, to test what is around it. Online the server sends its
 * operands, the client opens them and answers with the server's results. */
#include "runtime/relu/relu.h"

extern const struct relu_backend plain_relu;
#endif
