/* number.h - real numbers as text with a point, whatever the locale of the host program says: strtod and
 * printf follow it, files must not. */
#ifndef UP_FILES_NUMBER_H
#define UP_FILES_NUMBER_H

#include <stddef.h>

enum { UP_NUMBER_ROOM = 40 };

/* As strtod in the C locale. */
double up_number_read(const char *text, char **end);

/* The fewest digits (15 to 17) that read back as the same value; room for UP_NUMBER_ROOM bytes. */
void up_number_write(double value, char text[UP_NUMBER_ROOM]);

#endif
