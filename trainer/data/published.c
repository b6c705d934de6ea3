/* The MD5 sums that the publishers of CIFAR, its corruptions and Tiny-ImageNet state. */
#include "trainer/data/published.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "core/base/file.h"
#include "core/base/sha256.h"
#include "trainer/data/archive.h"

#define MD5_BYTES 16

static const struct {
    const char *file, *md5;
} published[] = {
    {"cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"},
    {"cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"},
    {"cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"},
    {"cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"},
    {"CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"},
    {"CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"},
    {"tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"},
    {"data_batch_1", "c99cafc152244af753f735de768cd75f"},
    {"data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"},
    {"data_batch_3", "54ebc095f3ab1f0389bbae665268c751"},
    {"data_batch_4", "634d18415352ddfa80567beed471001a"},
    {"data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"},
    {"test_batch", "40351d587109b95175f43aff81a1287e"},
};

static const char *sum_of(const char *path)
{
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        if (strcmp(archive_base(path), published[i].file) == 0)
            return published[i].md5;
    return NULL;
}

static int md5_file(const char *path, char text[2 * MD5_BYTES + 1])
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    struct file_map map;
    int ok;

    TRY(file_map_open(path, &map));
    ok = EVP_Digest(map.data, map.len, sum, NULL, EVP_md5(), NULL);
    file_map_close(&map);
    if (ok != 1)
        return fail(ERR_UNSUPPORTED, "'%s': this OpenSSL computes no MD5", path);
    hex_of(sum, MD5_BYTES, text);
    return 0;
}

int published_check(const char *path, enum published *verdict, char note[PUBLISHED_NOTE])
{
    const char *want = sum_of(path);
    char have[2 * MD5_BYTES + 1];

    *verdict = PUBLISHED_UNKNOWN;
    note[0] = '\0';
    if (want == NULL)
        return 0;
    TRY(md5_file(path, have));
    *verdict = strcmp(want, have) == 0 ? PUBLISHED_SAME : PUBLISHED_OTHER;
    if (*verdict == PUBLISHED_SAME)
        snprintf(note, PUBLISHED_NOTE, " (MD5 as published)");
    else
        snprintf(note, PUBLISHED_NOTE, " (WARNING: MD5 %s, published %s)", have, want);
    return 0;
}
