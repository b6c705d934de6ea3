#ifndef LINNET_PI_H
#define LINNET_PI_H
/*
 * The C API of linnet-pi: private inference on a package (model.pi, model.pi.weights) that linnet wrote.
 * The server owns the weights, the client an image; neither learns the other's.
 *
 *     server                                          client
 *     linnet_pi_open("model.pi",                      linnet_pi_open("model.pi", NULL, &p)
 *                    "model.pi.weights", &p)
 *     linnet_pi_server(p, NULL, &stream, &s)          linnet_pi_client(p, NULL, &stream, &s)
 *     while ((rc = linnet_pi_answer(s)) > 0) ;        linnet_pi_query(s, LINNET_PI_U8_NCHW, image,
 *                                                                     logits, &label)
 *     linnet_pi_end(s)                                linnet_pi_end(s)
 *     linnet_pi_close(p)                              linnet_pi_close(p)
 *
 * Who learns what, and against whom it holds: runtime/PROTOCOL.md. The connection is the caller's: who
 * may connect, TLS and time limits of a session are up to the caller (linnet-pi serve has them).
 *
 * Every function that can fail returns a negative code of enum linnet_pi_error; linnet_pi_message() is
 * then a sentence that names the thing, the rule and a hint. Nothing is printed, the process is never
 * ended, there is no global state. Handles belong to the caller, who frees them; NULL is fine there. One
 * handle is used by one thread at a time; a package may serve many sessions of different threads.
 * Results do not depend on the number of threads.
 */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef LINNET_PI_API
#define LINNET_PI_API __attribute__((visibility("default")))
#endif

enum linnet_pi_error {
    LINNET_PI_OK = 0,
    LINNET_PI_NOMEM = -1,       /* out of memory */
    LINNET_PI_IO = -2,          /* the system refused to read or to write */
    LINNET_PI_FORMAT = -3,      /* a package is malformed */
    LINNET_PI_LIMIT = -4,       /* ... or larger than what is read */
    LINNET_PI_UNSUPPORTED = -5, /* ... or of another file version, or cannot be run that way */
    LINNET_PI_ARG = -6,         /* an option or argument is wrong */
    LINNET_PI_DATA = -7, /* an image is refused; a folder has no bundle or correlation left */
    LINNET_PI_NET = -8,  /* the connection failed */
    LINNET_PI_PEER = -9, /* the other side broke the protocol, or refused */
    LINNET_PI_INTERRUPTED = -13,
};
/* The sentence of this thread's last failure, "" if there was none. Valid until the next one. */
LINNET_PI_API const char *linnet_pi_message(void);
/* "out of memory" for LINNET_PI_NOMEM and so on; never NULL. */
LINNET_PI_API const char *linnet_pi_error_name(int code);
LINNET_PI_API const char *linnet_pi_version(void);

/* ---- packages -------------------------------------------------------------------------------- */

struct linnet_pi_package;
/* Reads and checks. weights: NULL for a client, which has none. */
LINNET_PI_API int linnet_pi_open(const char *model, const char *weights,
                                 struct linnet_pi_package **out);
LINNET_PI_API void linnet_pi_close(struct linnet_pi_package *p); /* wipes the weights */

struct linnet_pi_info {
    int64_t channels, height, width, classes;
    int64_t relus_total, relus_kept, macs; /* of one image */
    const char *model_id, *branch;         /* branch: of batch norm, "" if there is one only */
    const char *identity;                  /* 64 digits: what both parties must have in common */
};
LINNET_PI_API const struct linnet_pi_info *
linnet_pi_package_info(const struct linnet_pi_package *p);
/* Name of a class; NULL where the package has none. */
LINNET_PI_API const char *linnet_pi_label(const struct linnet_pi_package *p, int64_t class_index);

/* How images come, always whole. Floats are used as they are or, before normalisation, in [0,1]. */
enum linnet_pi_input {
    LINNET_PI_U8_NCHW,    /* uint8_t */
    LINNET_PI_U8_NHWC,    /* uint8_t, [n,H,W,C] */
    LINNET_PI_PIXELS,     /* float in [0,1], [n,C,H,W] */
    LINNET_PI_NORMALIZED, /* float after normalisation, [n,C,H,W] */
};
LINNET_PI_API size_t linnet_pi_image_size(const struct linnet_pi_package *p,
                                          enum linnet_pi_input kind); /* bytes of one */

enum linnet_pi_mode {
    LINNET_PI_FLOAT,  /* real numbers */
    LINNET_PI_FIXED,  /* integers mod 2^64, bit for bit the same on every machine */
    LINNET_PI_SIM2PC, /* both parties' shares: what sessions with the same test seed give */
};
/* In one process, with the weights. logits [n, classes]. test_seed: of LINNET_PI_SIM2PC, whose images are
 * numbered from 0 in each call, as those of one session. */
LINNET_PI_API int linnet_pi_run(struct linnet_pi_package *p, enum linnet_pi_mode mode,
                                uint64_t test_seed, enum linnet_pi_input kind, const void *images,
                                int64_t n, float *logits);

/* ---- sessions -------------------------------------------------------------------------------- */

/* A connection that the caller made and closes: a connected stream socket, or callbacks. It must carry
 * nothing else while the session lasts. */
struct linnet_pi_stream {
    int fd;         /* a socket, used where the callbacks are NULL; its flags stay as they are */
    double seconds; /* longest silence of the other side on the socket; 0: 60 */
    /* Exactly n bytes, or not 0: the connection is gone. */
    int (*send)(void *ctx, const void *bytes, size_t n);
    int (*recv)(void *ctx, void *bytes, size_t n);
    void *ctx;
};

struct linnet_pi_options;
LINNET_PI_API int linnet_pi_options_new(struct linnet_pi_options **out);
LINNET_PI_API void linnet_pi_options_free(struct linnet_pi_options *o);
/* LINNET_PI_ARG names what is wrong. Both sides:
 *     bundles DIR       preprocessing bundles, which queries use, each once; default: none
 *     dealer DIR        linear steps from correlations of a third party (linnet-pi deal)
 *     test-seed N       known shares, for tests on one machine; both sides the same
 *     tally on|off      compare SHA-256 of what was carried; both sides the same; off where the
 *                       connection protects its bytes, as TLS does; default: on
 * Server:
 *     relu NAME         "auto" or a name of linnet_pi_relu_at; default: auto
 *     reveal WHAT       "logits" or "label", what the client learns; default: logits
 *     max-bundles N     prepare no more while the folder holds N; default: 100 */
LINNET_PI_API int linnet_pi_options_set(struct linnet_pi_options *o, const char *name,
                                        const char *value);
/* Names of the ReLU backends, from 0; NULL after the last. *text, where not NULL: what it is. */
LINNET_PI_API const char *linnet_pi_relu_at(int index, const char **text);
/* The same of the linear backends. */
LINNET_PI_API const char *linnet_pi_linear_at(int index, const char **text);

struct linnet_pi_session;
/* The handshake. o: NULL or options, which may be freed afterwards; package and stream are borrowed
 * until linnet_pi_end. LINNET_PI_PEER names what the two sides do not agree on. */
LINNET_PI_API int linnet_pi_client(const struct linnet_pi_package *p,
                                   const struct linnet_pi_options *o,
                                   const struct linnet_pi_stream *stream,
                                   struct linnet_pi_session **out);
LINNET_PI_API int linnet_pi_server(const struct linnet_pi_package *p,
                                   const struct linnet_pi_options *o,
                                   const struct linnet_pi_stream *stream,
                                   struct linnet_pi_session **out);
/* A client says goodbye. The connection stays open. */
LINNET_PI_API void linnet_pi_end(struct linnet_pi_session *s);

/* Client: whether the server shows labels alone. */
LINNET_PI_API int linnet_pi_label_only(const struct linnet_pi_session *s);
/* Client: asks about one image. logits [classes], untouched where the server shows the label alone;
 * both may be NULL. *label is -1 where the shares add up to no class: the server deviates, and must not
 * learn that it does. After a failure the session can only be ended. */
LINNET_PI_API int linnet_pi_query(struct linnet_pi_session *s, enum linnet_pi_input kind,
                                  const void *image, float *logits, int64_t *label);
/* Client: the offline phases of 1 ... 64 images ahead of time; both sides keep their halves in `bundles`.
 * Images prepared together share ciphertexts: fewer bytes each, the memory of all. With a dealer: 1. */
LINNET_PI_API int linnet_pi_prepare(struct linnet_pi_session *s, int64_t images);
/* Server: waits for the next request and does it. 1: done, 0: the client said goodbye. */
LINNET_PI_API int linnet_pi_answer(struct linnet_pi_session *s);

enum linnet_pi_phase {
    LINNET_PI_SETUP,
    LINNET_PI_OFFLINE_LINEAR,
    LINNET_PI_OFFLINE_RELU,
    LINNET_PI_ONLINE,
};
struct linnet_pi_count { /* of all requests of a session so far, as this side saw them */
    uint64_t sent, received;
    double rounds, seconds; /* a round: there and back */
};
LINNET_PI_API struct linnet_pi_count linnet_pi_counted(const struct linnet_pi_session *s,
                                                       enum linnet_pi_phase phase);

#ifdef __cplusplus
}
#endif
#endif
