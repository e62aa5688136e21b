/* slots.c - the table of operations: what each slot calls, and which of its arguments are activations. The
 * operations compute in f32; where activations are f16 or bf16 they are widened before and rounded after, all
 * of them in the operation's scratch, or, where it asks for none, some rows at a time in the backend's own
 * space. */
#include "backend_cpu/cpu.h"

#include <string.h>

typedef enum role {
    IN = 1, /* activations: read, set, or both */
    OUT,
    BOTH,
    ROWS /* not of the activations' type, but with a row for each of theirs */
} role;

typedef struct field {
    size_t at;
    role role; /* 0: the list has ended */
} field;

/* The first field is never absent: its rows are the operation's, its type the activations'. */
enum { FIELDS = 16, ALIGN = 16 /* floats */ };
typedef struct slot {
    up_cpu_op run;
    size_t size;    /* of the arguments */
    size_t scratch; /* where in them it is; 0: none is asked for */
    field fields[FIELDS];
} slot;

typedef union arguments {
    up_embed_args embed;
    up_embed_grad embed_bwd;
    up_layernorm_args layernorm;
    up_layernorm_grad layernorm_bwd;
    up_residual_args residual;
    up_residual_grad residual_bwd;
} arguments;

static up_view *view_at(const void *args, size_t at) {
    return (up_view *)(void *)((unsigned char *)(uintptr_t)args + at);
}

static int is_half(up_view v) {
    return up_view_present(v) && (v.dtype == UP_F16 || v.dtype == UP_BF16);
}

static int has_half(const slot *s, const void *args) {
    int half = 0;
    for (const field *f = s->fields; f->role; f++) half |= is_half(*view_at(args, f->at));
    return half;
}

/* f32 space that is handed out from its beginning. */
typedef struct space {
    up_buffer *buffer;
    int64_t at, end;
} space;

static up_status take(space *s, int64_t rows, int64_t cols, up_view *out) {
    int64_t floats = (rows * cols + ALIGN - 1) / ALIGN * ALIGN;
    if (floats > s->end - s->at)
        return up_fail(UP_ERR_ARGUMENT, "backend cpu", "%lld bytes of scratch are left, %lld wanted",
                       4 * (long long)(s->end - s->at), 4 * (long long)floats);
    *out = up_view_at(s->buffer, UP_F32, s->at, rows, cols);
    s->at += floats;
    return UP_OK;
}

static space space_of(up_view scratch) {
    int64_t size = (int64_t)up_dtype_size(scratch.dtype), at = scratch.offset * size;
    return (space){scratch.buffer, (at + 3) / 4, (at + scratch.rows * scratch.cols * size) / 4};
}

/* Floats that one row of all activations takes. */
static int64_t row_floats(const slot *s, const void *args) {
    int64_t floats = 0;
    for (const field *f = s->fields; f->role; f++)
        if (is_half(*view_at(args, f->at))) floats += view_at(args, f->at)->cols + ALIGN;
    return floats;
}

/* One field of a copy of the arguments: cut to some rows, and where it is half as wide as f32, replaced. */
static up_status place(up_cpu *cpu, const field *f, up_view *v, space *space) {
    if (!up_view_present(*v) || f->role == ROWS) return UP_OK;
    up_view own = *v;
    if (!is_half(own)) return UP_OK;
    UP_TRY(take(space, own.rows, own.cols, v));
    return f->role == OUT ? UP_OK : up_cpu_cast(cpu, &(up_cast_args){own, *v});
}

static up_status give_back(up_cpu *cpu, const field *f, up_view computed, up_view own) {
    if (f->role == OUT || f->role == BOTH)
        if (is_half(own)) return up_cpu_cast(cpu, &(up_cast_args){computed, own});
    return UP_OK;
}

/* Rows first..first+count-1 of all fields that have the operation's rows; all rows where count is -1. */
static up_view cut(up_view v, int64_t first, int64_t count) {
    return count < 0 || !up_view_present(v) ? v : up_view_rows(v, first, count);
}

static up_status run_rows(up_cpu *cpu, const slot *s, const void *args, int64_t first, int64_t count,
                          space space) {
    arguments copy;
    memcpy(&copy, args, s->size);
    for (const field *f = s->fields; f->role; f++) {
        up_view *v = view_at(&copy, f->at);
        *v = cut(*v, first, count);
        UP_TRY(place(cpu, f, v, &space));
    }
    if (s->scratch) /* what is left */
        *view_at(&copy, s->scratch) = up_view_at(space.buffer, UP_F32, space.at, 1, space.end - space.at);
    UP_TRY(s->run(cpu, &copy));
    for (const field *f = s->fields; f->role; f++)
        UP_TRY(give_back(cpu, f, *view_at(&copy, f->at), cut(*view_at(args, f->at), first, count)));
    return UP_OK;
}

static up_status run_half(up_cpu *cpu, const slot *s, const void *args) {
    if (s->scratch) return run_rows(cpu, s, args, 0, -1, space_of(*view_at(args, s->scratch)));
    space spare = {&cpu->spare, 0, (int64_t)(cpu->spare.size / sizeof(float))};
    int64_t rows = view_at(args, s->fields[0].at)->rows;
    int64_t each = up_most(1, spare.end / row_floats(s, args));
    for (int64_t first = 0; first < rows; first += each)
        UP_TRY(run_rows(cpu, s, args, first, up_least(each, rows - first), spare));
    return UP_OK;
}

static up_status run(up_backend *b, const slot *s, const void *args) {
    unsigned mode = up_cpu_enter();
    up_status status = has_half(s, args) ? run_half(up_cpu_of(b), s, args) : s->run(up_cpu_of(b), args);
    up_cpu_leave(mode);
    return status;
}

/* Floats that activations take at these dims, forward or backward, whichever is more. */
size_t up_cpu_half_scratch(up_op op, const up_op_dims *d) {
    int64_t floats = 0, width = up_most(d->in, d->out);
    if (d->dtype == UP_F32 || (op != UP_OP_LAYERNORM && op != UP_OP_RESIDUAL)) return 0;
    if (op == UP_OP_LAYERNORM) floats = 4 * d->rows * width; /* x, dy, residual, dx */
    if (op == UP_OP_RESIDUAL) floats = 3 * d->rows * width;  /* branch, dy, dbranch */
    return (size_t)(floats + FIELDS * ALIGN) * sizeof(float);
}

/* ---- the slots ---- */
static const slot embed_slot = {
    .run = up_cpu_embed,
    .size = sizeof(up_embed_args),
    .fields = {{offsetof(up_embed_args, y), OUT},
               {offsetof(up_embed_args, ids), ROWS},
               {offsetof(up_embed_args, positions), ROWS}},
};
static up_status embed(up_backend *b, const up_embed_args *a) {
    return run(b, &embed_slot, a);
}

static const slot embed_bwd_slot = {
    .run = up_cpu_embed_bwd,
    .size = sizeof(up_embed_grad),
    .fields = {{offsetof(up_embed_grad, dy), IN},
               {offsetof(up_embed_grad, ids), ROWS},
               {offsetof(up_embed_grad, positions), ROWS}},
};
static up_status embed_bwd(up_backend *b, const up_embed_grad *a) {
    return run(b, &embed_bwd_slot, a);
}

static const slot layernorm_slot = {
    .run = up_cpu_layernorm,
    .size = sizeof(up_layernorm_args),
    .fields = {{offsetof(up_layernorm_args, y), OUT},
               {offsetof(up_layernorm_args, x), IN},
               {offsetof(up_layernorm_args, stats), ROWS}},
};
static up_status layernorm(up_backend *b, const up_layernorm_args *a) {
    return run(b, &layernorm_slot, a);
}

static const slot layernorm_bwd_slot = {
    .run = up_cpu_layernorm_bwd,
    .size = sizeof(up_layernorm_grad),
    .scratch = offsetof(up_layernorm_grad, scratch),
    .fields = {{offsetof(up_layernorm_grad, dy), IN},
               {offsetof(up_layernorm_grad, x), IN},
               {offsetof(up_layernorm_grad, residual), IN},
               {offsetof(up_layernorm_grad, dx), OUT}},
};
static up_status layernorm_bwd(up_backend *b, const up_layernorm_grad *a) {
    return run(b, &layernorm_bwd_slot, a);
}

static const slot residual_slot = {
    .run = up_cpu_residual,
    .size = sizeof(up_residual_args),
    .fields = {{offsetof(up_residual_args, y), OUT},
               {offsetof(up_residual_args, x), IN},
               {offsetof(up_residual_args, branch), IN},
               {offsetof(up_residual_args, owner), ROWS}},
};
static up_status residual(up_backend *b, const up_residual_args *a) {
    return run(b, &residual_slot, a);
}

static const slot residual_bwd_slot = {
    .run = up_cpu_residual_bwd,
    .size = sizeof(up_residual_grad),
    .scratch = offsetof(up_residual_grad, scratch),
    .fields = {{offsetof(up_residual_grad, dy), IN},
               {offsetof(up_residual_grad, branch), IN},
               {offsetof(up_residual_grad, dbranch), OUT}},
};
static up_status residual_bwd(up_backend *b, const up_residual_grad *a) {
    return run(b, &residual_bwd_slot, a);
}

/* What follows reads every element type itself, or is f32 always. */
static up_status run_f32(up_backend *b, up_cpu_op op, const void *args) {
    return run(b, &(slot){.run = op}, args);
}

static up_status patch_embed(up_backend *b, const up_patch_embed_args *a) {
    return run_f32(b, up_cpu_patch_embed, a);
}
static up_status patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a) {
    return run_f32(b, up_cpu_patch_embed_bwd, a);
}
static up_status prepare(up_backend *b, const up_prepare_args *a) {
    return run_f32(b, up_cpu_prepare, a);
}
static up_status linear(up_backend *b, const up_linear_args *a) {
    return run_f32(b, up_cpu_linear, a);
}
static up_status linear_bwd(up_backend *b, const up_linear_grad *a) {
    return run_f32(b, up_cpu_linear_bwd, a);
}
static up_status attention(up_backend *b, const up_attention_args *a) {
    return run_f32(b, up_cpu_attention, a);
}
static up_status attention_bwd(up_backend *b, const up_attention_grad *a) {
    return run_f32(b, up_cpu_attention_bwd, a);
}
static up_status gather(up_backend *b, const up_gather_args *a) {
    return run_f32(b, up_cpu_gather, a);
}
static up_status gather_bwd(up_backend *b, const up_gather_grad *a) {
    return run_f32(b, up_cpu_gather_bwd, a);
}
static up_status scatter(up_backend *b, const up_scatter_args *a) {
    return run_f32(b, up_cpu_scatter, a);
}
static up_status cast(up_backend *b, const up_cast_args *a) {
    return run_f32(b, up_cpu_cast, a);
}
static up_status l2norm(up_backend *b, const up_l2norm_args *a) {
    return run_f32(b, up_cpu_l2norm, a);
}
static up_status l2norm_bwd(up_backend *b, const up_l2norm_grad *a) {
    return run_f32(b, up_cpu_l2norm_bwd, a);
}
static up_status logits(up_backend *b, const up_logits_args *a) {
    return run_f32(b, up_cpu_logits, a);
}
static up_status logits_bwd(up_backend *b, const up_logits_grad *a) {
    return run_f32(b, up_cpu_logits_bwd, a);
}
static up_status logits_scale_bwd(up_backend *b, const up_logits_scale_grad *a) {
    return run_f32(b, up_cpu_logits_scale_bwd, a);
}
static up_status xent(up_backend *b, const up_xent_args *a) {
    return run_f32(b, up_cpu_xent, a);
}
static up_status xent_bwd(up_backend *b, const up_xent_grad *a) {
    return run_f32(b, up_cpu_xent_bwd, a);
}
static up_status sqnorm(up_backend *b, const up_sqnorm_args *a) {
    return run_f32(b, up_cpu_sqnorm, a);
}
static up_status adamw(up_backend *b, const up_adamw_args *a) {
    return run_f32(b, up_cpu_adamw, a);
}

/* Seven numbers: as the reference does it. */
static up_status step(up_backend *b, const up_step_args *a) {
    unsigned mode = up_cpu_enter();
    up_status status = up_ref_ops()->step(b, a);
    up_cpu_leave(mode);
    return status;
}

/* Other values than 0 fill what is small, and are the reference's. */
static up_status fill(up_backend *b, up_view dst, double value) {
    if (value != 0) return up_ref_ops()->fill(b, dst, value);
    return run_f32(b, dst.dtype == UP_F32 ? up_cpu_zero : up_cpu_clear, &dst);
}

static up_status copy(up_backend *b, up_view dst, up_view src) {
    return run_f32(b, up_cpu_cast, &(up_cast_args){src, dst});
}

void up_cpu_fill_slots(up_backend_ops *ops) {
    ops->fill = fill;
    ops->copy = copy;
    ops->embed = embed;
    ops->embed_bwd = embed_bwd;
    ops->patch_embed = patch_embed;
    ops->patch_embed_bwd = patch_embed_bwd;
    ops->prepare = prepare;
    ops->linear = linear;
    ops->linear_bwd = linear_bwd;
    ops->layernorm = layernorm;
    ops->layernorm_bwd = layernorm_bwd;
    ops->attention = attention;
    ops->attention_bwd = attention_bwd;
    ops->residual = residual;
    ops->residual_bwd = residual_bwd;
    ops->gather = gather;
    ops->gather_bwd = gather_bwd;
    ops->scatter = scatter;
    ops->cast = cast;
    ops->l2norm = l2norm;
    ops->l2norm_bwd = l2norm_bwd;
    ops->logits = logits;
    ops->logits_bwd = logits_bwd;
    ops->logits_scale_bwd = logits_scale_bwd;
    ops->xent = xent;
    ops->xent_bwd = xent_bwd;
    ops->sqnorm = sqnorm;
    ops->adamw = adamw;
    ops->step = step;
}
