/* classes.h - the class names or answers of a source, and which one each row has. */
#ifndef UP_TASKS_CLASSES_H
#define UP_TASKS_CLASSES_H

#include "tasks/source.h"

/* Fill classes, class_of_row and the classes' texts as tokens: from the settings' list, or from the rows. */
up_status up_classes_open(up_source *source);
/* The texts of all classes as tokens, in a template: ids and starts [class_count + 1] are malloc'ed. */
up_status up_classes_tokenize(const up_source *source, const char *form, int32_t **ids, int64_t **starts);
void up_classes_close(up_source *source);

#endif
