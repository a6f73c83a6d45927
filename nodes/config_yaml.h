/* A YAML file of somebody else, such as a kubeconfig, as a JSON tree. Our own configuration has a table:
 * config.h. */
#ifndef KELP_NODES_CONFIG_YAML_H
#define KELP_NODES_CONFIG_YAML_H

#include <jansson.h>

#include "nodes/config.h"

/* Read a file whose root is a map. Every scalar becomes a string; keys are strings; aliases and further
 * documents are refused or ignored.
 *
 *   reason    CONFIG_REASON_BYTES bytes, receives a sentence when NULL
 *   returns   given: json_decref; NULL: it cannot be read
 */
json_t *config_yaml_read(const char *path, char *reason);

#endif
