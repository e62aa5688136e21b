/* mask.c - the command mask: the attention mask of captions and autoregressive texts (paper appendix B,
 * figure 4). */
#include "cli/args.h"
#include "cli/commands.h"
#include "uniperceiver/backend.h"

#include <stdio.h>

int up_cmd_mask(int argc, char **argv) {
    int64_t prefix = 0, words = 0;
    const up_arg args[] = {
        {"prefix", UP_ARG_WHOLE, &prefix, "P", "tokens of the prefix, its <SPE> included", 1, 0, 10000},
        {"words", UP_ARG_WHOLE, &words, "N", "words, and as many slots behind them", 1, 0, 10000},
        {0}};
    const up_usage usage = {
        "mask", "", "print the mask of [prefix | words | slots]: a row a token, 1 = it may attend", args};
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code != UP_ARGS_GO) return code;
    int tokens = (int)(prefix + 2 * words);
    for (int i = 0; i < tokens && !ferror(stdout); i++)
        for (int j = 0; j < tokens; j++)
            printf("%d%c", up_mask_sees(UP_MASK_DOUBLED, (int)prefix, (int)words, i, j),
                   j + 1 < tokens ? ' ' : '\n');
    return 0;
}
