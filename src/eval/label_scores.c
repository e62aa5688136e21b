/* label_scores.c - F1 and Matthews' correlation by counting. */
#include "eval/label_scores.h"

#include <math.h>
#include <string.h>

double up_f1(const int32_t *predicted, const int32_t *labels, size_t n) {
    int64_t both = 0, either = 0;
    for (size_t i = 0; i < n; i++) {
        both += predicted[i] == 1 && labels[i] == 1;
        either += (predicted[i] == 1) + (labels[i] == 1);
    }
    return either ? 2.0 * (double)both / (double)either : 0;
}

double up_matthews(const int32_t *predicted, const int32_t *labels, size_t n, int32_t classes,
                   int64_t *counts) {
    int64_t *of_predicted = counts, *of_labels = counts + classes, right = 0;
    double all = (double)n, products = 0, squares_predicted = 0, squares_labels = 0;
    memset(counts, 0, 2 * (size_t)classes * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        of_predicted[predicted[i]]++;
        of_labels[labels[i]]++;
        right += predicted[i] == labels[i];
    }
    for (int32_t k = 0; k < classes; k++) {
        double p = (double)of_predicted[k], t = (double)of_labels[k];
        products += p * t;
        squares_predicted += p * p;
        squares_labels += t * t;
    }
    double scale = sqrt(all * all - squares_predicted) * sqrt(all * all - squares_labels);
    return scale > 0 ? ((double)right * all - products) / scale : 0;
}
