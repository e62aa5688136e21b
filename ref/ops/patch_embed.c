/* patch_embed.c - picture and video tokens: a linear projection of each patch, its place in the picture, its
 * frame in the clip, and the modality embedding <V> (paper section 3.1 and appendix A). */
#include "ref/ops/ops.h"

up_status up_ref_patch_embed(up_backend *b, const up_patch_embed_args *a) {
    (void)b;
    int timed = up_view_present(a->time) && up_view_present(a->frames);
    const float *type = up_f32(a->type); /* [D] or NULL */
    for (int64_t n = 0; n < a->y.rows; n++) {
        const float *space = up_row(a->space, up_index(a->cells, n));
        const float *time = timed ? up_row(a->time, up_index(a->frames, n)) : NULL;
        float *y = up_row(a->y, n);
        for (int64_t d = 0; d < a->y.cols; d++)
            y[d] = (float)((double)space[d] + (time ? time[d] : 0) + (type ? type[d] : 0));
    }
    up_ref_gemm(a->patches.cols, 1, up_ref_plain(a->patches), up_ref_transposed(a->weight), up_f32(a->bias),
                a->y, a->y);
    return UP_OK;
}

/* y = W patch + b + P_space[cell] + P_time[frame] + V */
up_status up_ref_patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a) {
    (void)b;
    up_view none = {0};
    if (up_view_present(a->dweight))
        up_ref_gemm(a->dy.rows, 1, up_ref_transposed(a->dy), up_ref_plain(a->patches), NULL, a->dweight,
                    a->dweight);
    if (up_view_present(a->dbias)) up_ref_add_columns(a->dbias, a->dy, none);
    if (up_view_present(a->dspace)) up_ref_add_by_index(a->dspace, a->cells, a->dy, a->scratch);
    if (up_view_present(a->dtime) && up_view_present(a->frames))
        up_ref_add_by_index(a->dtime, a->frames, a->dy, a->scratch);
    if (up_view_present(a->dtype)) up_ref_add_columns(a->dtype, a->dy, none);
    return UP_OK;
}
