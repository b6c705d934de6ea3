#ifndef TESTS_CRC32_H
#define TESTS_CRC32_H
/* CRC-32 as in zlib and PNG: tests keep it of pictures that another program made. */
#include <stddef.h>
#include <stdint.h>

uint32_t crc32_of(const uint8_t *p, size_t n);
#endif
