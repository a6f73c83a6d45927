/* Kubernetes quantities: "250m", "0.5", "128Mi", "1e3", "2G". */
#ifndef KELP_NODES_EDGE_QUANTITY_H
#define KELP_NODES_EDGE_QUANTITY_H

#include <stdbool.h>
#include <stdint.h>

/* Thousandths of the quantity, rounded up as Kubernetes rounds, at most INT64_MAX; so "1Gi" of
 * memory is 1073741824000 and "250m" of cpu is 250. Answers false for what is no quantity, and for
 * negative ones: no resource can be. */
bool quantity_parse(const char *text, int64_t *out_milli);

#endif
