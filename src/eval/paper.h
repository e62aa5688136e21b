/* paper.h - the numbers of the paper's Tables 2 to 8 and of the released models, as rows that results can be
 * put beside (the command tables). */
#ifndef UP_EVAL_PAPER_H
#define UP_EVAL_PAPER_H

enum { UP_PAPER_COLUMNS = 12, UP_PAPER_ROWS = 20 };

/* A number of a table: of an evaluation by its name, as configs/ has it. */
typedef struct up_paper_column {
    const char *group, *head;
    const char *evaluation, *metric; /* as in metrics.json */
} up_paper_column;

typedef struct up_paper_row {
    const char *label, *source; /* source: paper or released */
    const char *tune; /* none, prompts, all; NULL: another method, with which nothing of ours compares */
    double fraction;  /* of the data */
    const double values[UP_PAPER_COLUMNS]; /* in percent; 0: none is told */
} up_paper_row;

typedef struct up_paper_table {
    int number;
    const char *title;
    int column_count;
    up_paper_column columns[UP_PAPER_COLUMNS];
    up_paper_row rows[UP_PAPER_ROWS]; /* ended by one without a label */
} up_paper_table;

extern const up_paper_table up_paper_tables[]; /* ended by number 0 */

#endif
