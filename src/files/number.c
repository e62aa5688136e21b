/* number.c - strtod and printf under the C locale, switched for this thread alone (POSIX uselocale). */
#include "files/number.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static locale_t plain; /* (locale_t)0 if the system has none to give: the thread's own is kept then */

static void make_plain(void) {
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static locale_t enter(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_plain);
    return uselocale(plain);
}

double up_number_read(const char *text, char **end) {
    locale_t before = enter();
    double value = strtod(text, end);
    uselocale(before);
    return value;
}

void up_number_write(double value, char text[UP_NUMBER_ROOM]) {
    locale_t before = enter();
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, UP_NUMBER_ROOM, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    uselocale(before);
}
