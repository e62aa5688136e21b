/* slots.c - the table of operations: what each slot calls, in the backend's own floating point mode. */
#include "backend_cpu/cpu.h"

static up_status run(up_backend *b, up_cpu_op op, const void *args) {
    unsigned mode = up_cpu_enter();
    up_status status = op(up_cpu_of(b), args);
    up_cpu_leave(mode);
    return status;
}

static up_status patch_embed(up_backend *b, const up_patch_embed_args *a) {
    return run(b, up_cpu_patch_embed, a);
}
static up_status patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a) {
    return run(b, up_cpu_patch_embed_bwd, a);
}
static up_status prepare(up_backend *b, const up_prepare_args *a) {
    return run(b, up_cpu_prepare, a);
}
static up_status linear(up_backend *b, const up_linear_args *a) {
    return run(b, up_cpu_linear, a);
}
static up_status linear_bwd(up_backend *b, const up_linear_grad *a) {
    return run(b, up_cpu_linear_bwd, a);
}
static up_status attention(up_backend *b, const up_attention_args *a) {
    return run(b, up_cpu_attention, a);
}
static up_status attention_bwd(up_backend *b, const up_attention_grad *a) {
    return run(b, up_cpu_attention_bwd, a);
}
static up_status embed(up_backend *b, const up_embed_args *a) {
    return run(b, up_cpu_embed, a);
}
static up_status embed_bwd(up_backend *b, const up_embed_grad *a) {
    return run(b, up_cpu_embed_bwd, a);
}
static up_status layernorm(up_backend *b, const up_layernorm_args *a) {
    return run(b, up_cpu_layernorm, a);
}
static up_status layernorm_bwd(up_backend *b, const up_layernorm_grad *a) {
    return run(b, up_cpu_layernorm_bwd, a);
}
static up_status residual(up_backend *b, const up_residual_args *a) {
    return run(b, up_cpu_residual, a);
}
static up_status residual_bwd(up_backend *b, const up_residual_grad *a) {
    return run(b, up_cpu_residual_bwd, a);
}
static up_status add_layernorm(up_backend *b, const up_add_layernorm_args *a) {
    return run(b, up_cpu_add_layernorm, a);
}
static up_status add_layernorm_bwd(up_backend *b, const up_add_layernorm_grad *a) {
    return run(b, up_cpu_add_layernorm_bwd, a);
}
static up_status gelu(up_backend *b, const up_gelu_args *a) {
    return run(b, up_cpu_gelu, a);
}
static up_status gather(up_backend *b, const up_gather_args *a) {
    return run(b, up_cpu_gather, a);
}
static up_status gather_bwd(up_backend *b, const up_gather_grad *a) {
    return run(b, up_cpu_gather_bwd, a);
}
static up_status scatter(up_backend *b, const up_scatter_args *a) {
    return run(b, up_cpu_scatter, a);
}
static up_status cast(up_backend *b, const up_cast_args *a) {
    return run(b, up_cpu_cast, a);
}
static up_status l2norm(up_backend *b, const up_l2norm_args *a) {
    return run(b, up_cpu_l2norm, a);
}
static up_status l2norm_bwd(up_backend *b, const up_l2norm_grad *a) {
    return run(b, up_cpu_l2norm_bwd, a);
}
static up_status logits(up_backend *b, const up_logits_args *a) {
    return run(b, up_cpu_logits, a);
}
static up_status logits_bwd(up_backend *b, const up_logits_grad *a) {
    return run(b, up_cpu_logits_bwd, a);
}
static up_status logits_scale_bwd(up_backend *b, const up_logits_scale_grad *a) {
    return run(b, up_cpu_logits_scale_bwd, a);
}
static up_status xent(up_backend *b, const up_xent_args *a) {
    return run(b, up_cpu_xent, a);
}
static up_status xent_bwd(up_backend *b, const up_xent_grad *a) {
    return run(b, up_cpu_xent_bwd, a);
}
static up_status sqnorm(up_backend *b, const up_sqnorm_args *a) {
    return run(b, up_cpu_sqnorm, a);
}
static up_status adamw(up_backend *b, const up_adamw_args *a) {
    return run(b, up_cpu_adamw, a);
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
    return run(b, dst.dtype == UP_F32 ? up_cpu_zero : up_cpu_clear, &dst);
}

static up_status copy(up_backend *b, up_view dst, up_view src) {
    return run(b, up_cpu_cast, &(up_cast_args){src, dst});
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
    ops->add_layernorm = add_layernorm;
    ops->add_layernorm_bwd = add_layernorm_bwd;
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
    ops->gelu = gelu;
}
