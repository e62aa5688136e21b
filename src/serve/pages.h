/* pages.h - what is served as it is: the page and the description of the interface. */
#ifndef UP_SERVE_PAGES_H
#define UP_SERVE_PAGES_H

#include <stdint.h>

extern const uint32_t up_page_html_size, up_openapi_json_size;
extern const char up_page_html[], up_openapi_json[];

#endif
