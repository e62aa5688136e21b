/* report.h - a run's folder as one page of HTML that needs no network: page.html with the run's numbers in
 * it. */
#ifndef UP_REPORT_REPORT_H
#define UP_REPORT_REPORT_H

#include "uniperceiver/status.h"

/* `out` NULL: report.html in the run's folder. Files that the folder lacks leave their part of the page out;
 * a folder without metrics.jsonl and metrics.json is an error. */
up_status up_report_write(const char *run, const char *out);

#endif
