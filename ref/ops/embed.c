/* embed.c - text tokens: the sum of token, position and modality embeddings (paper section 3.1 and appendix
 * A). The leading <SPE> has position -1 and is its token embedding alone. */
#include "ref/ops/ops.h"

up_status up_ref_embed(up_backend *b, const up_embed_args *a) {
    (void)b;
    const float *type = up_f32(a->type); /* [D] or NULL */
    for (int64_t n = 0; n < a->y.rows; n++) {
        int64_t at = up_index(a->positions, n);
        const float *token = up_row(a->token, up_index(a->ids, n));
        const float *position = at < 0 ? NULL : up_row(a->position, at);
        float *y = up_row(a->y, n);
        for (int64_t d = 0; d < a->y.cols; d++)
            y[d] = position ? (float)((double)token[d] + position[d] + (type ? type[d] : 0)) : token[d];
    }
    return UP_OK;
}

/* y = E[id] + P[position] + T: each summand takes the sum of dy over the tokens that used it. */
up_status up_ref_embed_bwd(up_backend *b, const up_embed_grad *a) {
    (void)b;
    if (up_view_present(a->dtoken)) up_ref_add_by_index(a->dtoken, a->ids, a->dy, a->scratch);
    if (up_view_present(a->dposition)) up_ref_add_by_index(a->dposition, a->positions, a->dy, a->scratch);
    if (up_view_present(a->dtype)) up_ref_add_columns(a->dtype, a->dy, a->positions);
    return UP_OK;
}
