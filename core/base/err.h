#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H
/*
 * Error codes and the message of the last failure.
 *
 * One pattern everywhere: the function that detects a problem writes the
 * sentence with fail() and returns its code; callers pass the code up. The
 * message is per thread and stays until the next fail().
 *
 *     if (n > limit)
 *         return fail(ERR_LIMIT, "node '%s': %d inputs, at most %d", name, n, limit);
 */
#define ERR_LIST(X)                                                                                \
    X(NOMEM, "out of memory")                                                                      \
    X(IO, "input/output error")                                                                    \
    X(FORMAT, "malformed file")                                                                    \
    X(LIMIT, "limit exceeded")                                                                     \
    X(UNSUPPORTED, "not supported")                                                                \
    X(ARG, "bad argument")                                                                         \
    X(DATA, "data refused")                                                                        \
    X(NET, "connection failed")                                                                    \
    X(PEER, "peer broke the protocol")                                                             \
    X(NUMERIC, "not a number")                                                                     \
    X(VERIFY, "outside tolerance")                                                                 \
    X(GOAL, "goal missed")                                                                         \
    X(INTERRUPTED, "interrupted")

enum err_ordinal {
    ERR_ORDINAL_NONE,
#define X(name, text) ERR_ORDINAL_##name,
    ERR_LIST(X)
#undef X
        ERR_ORDINAL_END
};
enum err_code {
    ERR_NONE = 0,
#define X(name, text) ERR_##name = -ERR_ORDINAL_##name,
    ERR_LIST(X)
#undef X
};

#define ERR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define MUST_CHECK __attribute__((warn_unused_result))

/* Makes control characters of a text '?': it may be shown on a terminal. */
void err_plain(char *text);
/* Stores the message of this thread, on one line, and returns `code`. */
int fail(int code, const char *fmt, ...) ERR_PRINTF(2, 3);
/* Puts "context: " in front of the stored message; returns `code`. */
int fail_context(int code, const char *fmt, ...) ERR_PRINTF(2, 3);
/* The last message of this thread, "" if none. Valid until the next fail(). */
const char *err_message(void);
/* "out of memory" for ERR_NOMEM and so on; never NULL. */
const char *err_name(int code);

/* Returns a negative code upwards. Only where the function owns nothing but what is SCOPED (mem.h). */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int try_rc_ = (call);                                                                      \
        if (try_rc_ < 0)                                                                           \
            return try_rc_;                                                                        \
    } while (0)
#endif
