/* attention.cuh - what both ways of attention share: the call, the spans of sequences, the masks.
 * attention.cu works on plain cores (f32, and few keys), attention_tensor.cu on tensor cores (16 bits). */
#ifndef UP_ATTENTION_CUH
#define UP_ATTENTION_CUH

#include "backend_cuda/device.cuh"

enum { UP_VECTOR = 8 }; /* elements of 16 bits that are read at once */

/* The columns of a sequence's row: UP_SEQ_Q_START and so on; the kinds of masks. */
enum { UP_AT_Q, UP_AT_QUERIES, UP_AT_K, UP_AT_KEYS, UP_AT_KIND, UP_AT_PREFIX, UP_AT_WORDS, UP_AT_SIDE };
enum { UP_FULL_MASK, UP_DOUBLED_MASK, UP_CAUSAL_MASK };

/* up_mask_sees of backend.h. */
UP_DEVICE bool up_sees(int kind, int prefix, int words, int i, int j) {
    if (kind == UP_FULL_MASK) return true;
    if (kind == UP_CAUSAL_MASK) return j <= i;
    if (i < prefix) return j < prefix;
    if (i < prefix + words) return j <= i;
    return j < i - words || j == i;
}

template <class T> struct up_attention_call {
    up_list sequences; /* rows of 8 */
    up_matrix<const T> q, k, v, prompt_k, prompt_v;
    up_matrix<T> out;
    up_matrix<float> lse;
    int sequence_count, heads, width, prompts, sides, tiles; /* tiles: of queries, at most */
    float scale;                                             /* 1 / sqrt(width) */
    /* backward */
    up_matrix<const T> dout;
    up_matrix<T> dq, dk, dv, dprompt_k, dprompt_v;
    float *average; /* [Nq, H]: sum over j of p_j (dout . v_j) */
    float *largest; /* [Nq, H]: no |ds_j| of the query is larger; on tensor cores */
    bool vectors;   /* rows of a head can be read 8 elements at a time */
};

/* One sequence and one head. Keys are counted with the prompts first. */
struct up_span {
    int q_row, queries, k_row, keys, prompts, prompt_row, col, kind, prefix, words;
    __device__ __forceinline__ bool sees(int i, int j) const {
        return j < prompts || up_sees(kind, prefix, words, i + keys - prompts - queries, j - prompts);
    }
    /* No query up to i sees a key from this one on. */
    __device__ __forceinline__ int end_of_keys(int i) const {
        if (kind == UP_FULL_MASK) return keys;
        const int at = i + keys - prompts - queries;
        const int own = kind == UP_DOUBLED_MASK && at < prefix ? prefix : at + 1;
        return prompts + own < keys ? prompts + own : keys;
    }
};

template <class T> UP_DEVICE up_span up_span_of(const up_attention_call<T> &a, int s, int head) {
    const int *f = a.sequences.at + s * a.sequences.stride;
    up_span r;
    r.q_row = f[UP_AT_Q];
    r.queries = f[UP_AT_QUERIES];
    r.k_row = f[UP_AT_K];
    r.keys = a.prompts + f[UP_AT_KEYS];
    r.prompts = a.prompts;
    r.prompt_row = (a.sides > 1 ? f[UP_AT_SIDE] : 0) * a.prompts;
    r.col = head * a.width;
    r.kind = f[UP_AT_KIND];
    r.prefix = f[UP_AT_PREFIX];
    r.words = f[UP_AT_WORDS];
    return r;
}

/* Row j of the keys or values: prompts first, then the sequence's own. */
template <class T>
UP_DEVICE const T *up_key_row(const up_span &s, up_matrix<const T> own, up_matrix<const T> prompt, int j) {
    return (j < s.prompts ? prompt.row(s.prompt_row + j) : own.row(s.k_row + j - s.prompts)) + s.col;
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

/* f(up_count<W>): heads are worked on as if they were 16, 32, 64 or 128 wide. */
template <class F> static void up_by_head_width(int width, F f) {
    if (width <= 16)
        f(up_count<16>());
    else if (width <= 32)
        f(up_count<32>());
    else if (width <= 64)
        f(up_count<64>());
    else
        f(up_count<128>());
}

template <class T> static bool up_wants_prompts(const up_attention_call<T> &call) {
    return call.prompts && (call.dprompt_k.at || call.dprompt_v.at);
}

/* A launch with `room` bytes of shared memory; more than 48 KiB have to be asked for. */
template <class T>
static void up_launch_with_room(up_backend *b, void (*kernel)(up_attention_call<T>), dim3 grid, int threads,
                                size_t room, const up_attention_call<T> &call) {
    enum { ALWAYS = 48 << 10 };
    if (room > ALWAYS) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)room);
    up_launch(kernel, grid, threads, room, up_stream(b), call);
}

/* attention_tensor.cu, T of 16 bits; `most`: the keys of the longest sequence */
template <class T> void up_tensor_attention(up_backend *b, const up_attention_call<T> &call, int most);
template <class T> void up_tensor_attention_bwd(up_backend *b, const up_attention_call<T> &call, int most);
#endif

#endif
