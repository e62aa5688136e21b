/* embed.cu - text tokens: y = E[id] + P[position] + T; a token of position -1 is its embedding alone. */
#include "backend_cuda/index_sums.cuh"
#include "backend_cuda/sums.cuh"

enum { UP_EMBED_THREADS = 128, UP_EMBED_SPE = -1, UP_EMBED_NONE = -2 /* UP_ID_SPE, UP_ID_NONE */ };

template <class T>
static __global__ void __launch_bounds__(UP_EMBED_THREADS)
    up_embed(up_matrix<T> y, up_list ids, up_list positions, up_matrix<const float> token, const float *spe,
             up_matrix<const float> position, const float *type, int cols) {
    const int64_t n = blockIdx.x;
    const int id = ids[n], at = id == UP_EMBED_NONE ? -1 : positions[n];
    const float *row = id == UP_EMBED_SPE ? spe : token.row(id < 0 ? 0 : id);
    for (int d = threadIdx.x; d < cols; d += UP_EMBED_THREADS) {
        float v = id == UP_EMBED_NONE ? 0.0f : row[d];
        if (at >= 0) v = v + position(at, d) + (type ? type[d] : 0.0f);
        y(n, d) = up_from_float<T>(v);
    }
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

static_assert((int)UP_EMBED_SPE == (int)UP_ID_SPE && (int)UP_EMBED_NONE == (int)UP_ID_NONE,
              "the ids of backend.h");

size_t up_embed_scratch(const up_op_dims *d) {
    const size_t index = up_index_sums_scratch(d->rows, d->out), sums = up_sums_scratch(d->out);
    return index > sums ? index : sums;
}

static up_status embed(up_backend *b, const up_embed_args *a) {
    if (up_is_empty(a->y)) return UP_OK;
    up_by_type(a->y.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        up_launch(up_embed<T>, (unsigned)a->y.rows, UP_EMBED_THREADS, 0, up_stream(b), up_as<T>(a->y),
                  up_list_of(a->ids), up_list_of(a->positions), up_as<const float>(a->token),
                  up_pointer<const float>(a->spe), up_as<const float>(a->position),
                  up_pointer<const float>(a->type), (int)a->y.cols);
    });
    return up_launched("embed");
}

static up_status embed_bwd(up_backend *b, const up_embed_grad *a) {
    if (up_is_empty(a->dy)) return UP_OK;
    const up_pieces pieces(a->scratch);
    float *partial = up_pieces(pieces).take<float>(0);
    up_add_by_index(b, a->dtoken, a->ids, a->dy, pieces);
    up_add_by_index(b, a->dposition, a->positions, a->dy, pieces);
    up_add_rows(b, a->dspe, a->dy, a->ids, UP_ID_SPE, UP_ID_SPE, partial);
    up_add_rows(b, a->dtype, a->dy, a->positions, 0, INT32_MAX, partial);
    return up_launched("embed_bwd");
}

void up_embed_fill_table(up_backend_ops *ops) {
    ops->embed = embed;
    ops->embed_bwd = embed_bwd;
}
#endif
