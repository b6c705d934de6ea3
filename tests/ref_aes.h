#ifndef TESTS_REF_AES_H
#define TESTS_REF_AES_H
/* AES-128 from the text of FIPS 197, slow and plain: the second opinion on prg.c. */
#include <stdint.h>

void ref_aes128(const uint8_t key[16], const uint8_t in[16], uint8_t out[16]);
#endif
