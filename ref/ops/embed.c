/* embed.c - text tokens: the sum of token, position and modality embeddings (paper section 3.1 and appendix
 * A). The leading <SPE> has position -1 and is its embedding alone. */
#include "ref/ops/ops.h"

up_status up_ref_embed(up_backend *b, const up_embed_args *a) {
    (void)b;
    const float *type = up_f32(a->type); /* [D] or NULL */
    for (int64_t n = 0; n < a->y.rows; n++) {
        int64_t id = up_index(a->ids, n), at = up_index(a->positions, n);
        if (id == UP_ID_NONE) {
            up_ref_zero(up_view_rows(a->y, n, 1));
            continue;
        }
        const float *token = id == UP_ID_SPE ? up_f32(a->spe) : up_row(a->token, id);
        const float *position = at < 0 ? NULL : up_row(a->position, at);
        for (int64_t d = 0; d < a->y.cols; d++)
            up_put(a->y, n, d,
                   position ? (double)token[d] + position[d] + (type ? type[d] : 0) : (double)token[d]);
    }
    return UP_OK;
}

/* y = E[id] + P[position] + T: each summand takes the sum of dy over the tokens that used it. */
up_status up_ref_embed_bwd(up_backend *b, const up_embed_grad *a) {
    (void)b;
    if (up_view_present(a->dtoken)) up_ref_add_by_index(a->dtoken, a->ids, a->dy, a->scratch);
    if (up_view_present(a->dspe)) up_ref_add_columns(a->dspe, a->dy, a->ids, UP_ID_SPE, UP_ID_SPE);
    if (up_view_present(a->dposition)) up_ref_add_by_index(a->dposition, a->positions, a->dy, a->scratch);
    if (up_view_present(a->dtype)) up_ref_add_columns(a->dtype, a->dy, a->positions, 0, INT32_MAX);
    return UP_OK;
}
