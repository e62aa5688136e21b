/* log.h - the library's one way to say something that is no failure (include/uniperceiver/log.h). */
#ifndef UP_REF_LOG_H
#define UP_REF_LOG_H

#include "uniperceiver/log.h"

/* One line to the listener, or to stderr. Longer ones are cut. */
void up_log(up_log_level level, const char *format, ...) UP_PRINTF(2, 3);

/* A line that is put together piece by piece. */
typedef struct up_log_line {
    char text[2048];
    size_t used;
} up_log_line;
void up_log_add(up_log_line *line, const char *format, ...) UP_PRINTF(2, 3);

/* Whether a listener wants progress itself, and the telling. */
int up_progress_is_heard(void);
void up_progress_tell(const up_progress_report *progress);

#endif
