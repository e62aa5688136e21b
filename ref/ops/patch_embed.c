/* patch_embed.c - picture and video tokens: a linear projection of each patch, its place in the picture, its
 * frame in the clip, and the modality embedding <V> (paper section 3.1 and appendix A). */
#include "ref/ops/ops.h"

/* The patches as a factor: values, or bytes that stand for levels of the activations' type. */
static up_ref_matrix pixels(up_view patches, up_view levels, up_dtype dtype) {
    return (up_ref_matrix){.v = patches, .levels = levels, .dtype = dtype};
}

static void finish(const void *context, int64_t n, int64_t d, double sum) {
    const up_patch_embed_args *a = context;
    int64_t cell = up_index(a->cells, n);
    if (cell < 0) {
        up_put(a->y, n, d, 0);
        return;
    }
    double y = sum + up_f32(a->bias)[d] + up_row(a->space, cell)[d];
    if (up_view_present(a->time) && up_view_present(a->frames))
        y += up_row(a->time, up_index(a->frames, n))[d];
    if (up_view_present(a->type)) y += up_f32(a->type)[d];
    up_put(a->y, n, d, y);
}

up_status up_ref_patch_embed(up_backend *b, const up_patch_embed_args *a) {
    (void)b;
    up_ref_gemm(a->y.rows, a->y.cols, a->patches.cols, pixels(a->patches, a->levels, a->y.dtype),
                up_ref_transposed(a->weight), finish, a);
    return UP_OK;
}

/* y = W patch + b + P_space[cell] + P_time[frame] + V; dy of an unused row is 0 */
up_status up_ref_patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a) {
    (void)b;
    up_view all = {0};
    if (up_view_present(a->dweight))
        up_ref_gemm_add(a->dweight, a->dy.rows, up_ref_transposed(a->dy),
                        pixels(a->patches, a->levels, a->dy.dtype));
    if (up_view_present(a->dbias)) up_ref_add_columns(a->dbias, a->dy, all, 0, 0);
    if (up_view_present(a->dspace)) up_ref_add_by_index(a->dspace, a->cells, a->dy, a->scratch);
    if (up_view_present(a->dtime) && up_view_present(a->frames))
        up_ref_add_by_index(a->dtime, a->frames, a->dy, a->scratch);
    if (up_view_present(a->dtype)) up_ref_add_columns(a->dtype, a->dy, all, 0, 0);
    return UP_OK;
}
