/* status.h - the one error idiom of the library.
 *
 * Every function that can fail returns an up_status; 0 (UP_OK) is success everywhere. A failure leaves one
 * line "what: why" for the calling thread, read with up_last_error(). Bad input is an error, never an abort.
 */
#ifndef UNIPERCEIVER_STATUS_H
#define UNIPERCEIVER_STATUS_H

#include <stddef.h>

#if defined(__GNUC__)
#define UP_API               __attribute__((visibility("default")))
#define UP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define UP_API
#define UP_PRINTF(fmt, args)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum up_status {
    UP_OK = 0,
    UP_ERR_ARGUMENT,    /* the caller asked for something that makes no sense (wrong usage) */
    UP_ERR_IO,          /* the system refused: missing file, unwritable folder, full disk */
    UP_ERR_FORMAT,      /* a file's content is broken, hostile or not of the expected kind */
    UP_ERR_MEMORY,      /* out of memory; the message says how much was wanted */
    UP_ERR_UNSUPPORTED, /* well-formed, but this build or backend cannot do it */
    UP_ERR_NUMERIC,     /* a value that must be finite is not */
    UP_ERR_INTERRUPTED, /* stopped by a signal at a safe point */
    UP_ERR_BACKEND      /* the device or its library reported an error */
} up_status;

/* Record "what: why" for this thread and return `code`, so that `return up_fail(...)` is one line.
 * `what` names the thing (a file, a tensor, an option); the format says what was found and what was wanted.
 */
UP_API up_status up_fail(up_status code, const char *what, const char *why_format, ...) UP_PRINTF(3, 4);

/* The message of a failure on another thread ("what: why"), recorded for this one. */
UP_API up_status up_fail_again(up_status code, const char *message);

/* The last message of this thread: one line of sound UTF-8 without control characters, whatever the names and
 * files hold that it quotes (up_printable); "" if nothing failed. Valid until the next failure. */
UP_API const char *up_last_error(void);

/* `size` bytes of text as they can be shown on one line of a terminal: line breaks and tabs become spaces,
 * other control characters and what is not UTF-8 become \xNN. Cut to `room` bytes, the final NUL among them;
 * the bytes written before it are returned. */
UP_API size_t up_printable(const char *text, size_t size, char *out, size_t room);

/* A constant English name of a status ("ok", "input/output error", ...). */
UP_API const char *up_status_name(up_status code);

/* Pass a failure on to the caller. */
#define UP_TRY(call)                                                                                         \
    do {                                                                                                     \
        up_status up_try_status_ = (call);                                                                   \
        if (up_try_status_ != UP_OK) return up_try_status_;                                                  \
    } while (0)

/* Pass a failure on through the function's one cleaning-up label: needs `up_status status` and `done:`. */
#define UP_GO(call)                                                                                          \
    do {                                                                                                     \
        status = (call);                                                                                     \
        if (status != UP_OK) goto done;                                                                      \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
