/* pages.c - page.html and openapi.json as they lie in this folder. */
#include "serve/pages.h"

#define UP_EMBED(name, file)                                                                                 \
    __asm__(".pushsection .rodata\n.balign 4\n"                                                              \
            ".hidden " #name "_size\n.global " #name "_size\n"                                               \
            ".hidden " #name "\n.global " #name "\n" #name "_size: .long " #name "_end - " #name "\n" #name  \
            ": .incbin \"" UP_SERVE_FOLDER "/" file "\"\n" #name "_end:\n.popsection\n")

UP_EMBED(up_page_html, "page.html");
UP_EMBED(up_openapi_json, "openapi.json");
