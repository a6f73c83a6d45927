#include "nodes/config_yaml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "schemas/check.h"

#define YAML_DEPTH 16 /* maps and lists inside of each other; a kubeconfig has five */

/* A node as JSON. NULL: nested too deep, or no text. */
static json_t *node_json(yaml_document_t *document, int index, int depth)
{
    const yaml_node_t *node = yaml_document_get_node(document, index);
    if (node == NULL || depth > YAML_DEPTH) {
        return NULL;
    }
    json_t *made = NULL;
    switch (node->type) {
    case YAML_SCALAR_NODE:
        return json_stringn((const char *)node->data.scalar.value, node->data.scalar.length);
    case YAML_SEQUENCE_NODE:
        made = json_array();
        for (const yaml_node_item_t *at = node->data.sequence.items.start;
             at < node->data.sequence.items.top; at++) {
            if (json_array_append_new(made, node_json(document, *at, depth + 1)) != 0) {
                json_decref(made);
                return NULL;
            }
        }
        return made;
    case YAML_MAPPING_NODE:
        made = json_object();
        for (const yaml_node_pair_t *at = node->data.mapping.pairs.start;
             at < node->data.mapping.pairs.top; at++) {
            const yaml_node_t *key = yaml_document_get_node(document, at->key);
            if (key == NULL || key->type != YAML_SCALAR_NODE ||
                json_object_set_new(made, (const char *)key->data.scalar.value,
                                    node_json(document, at->value, depth + 1)) != 0) {
                json_decref(made);
                return NULL;
            }
        }
        return made;
    case YAML_NO_NODE:
        break;
    }
    return NULL;
}

json_t *config_yaml_read(const char *path, char *reason)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        snprintf(reason, CONFIG_REASON_BYTES, "%.300s: %s", path, strerror(errno));
        return NULL;
    }
    yaml_parser_t parser;
    yaml_document_t document;
    json_t *object = NULL;
    CHECK(yaml_parser_initialize(&parser) == 1);
    yaml_parser_set_input_file(&parser, file);
    if (yaml_parser_load(&parser, &document) == 1) {
        object = node_json(&document, 1, 0);
        yaml_document_delete(&document);
    }
    if (!json_is_object(object)) {
        snprintf(reason, CONFIG_REASON_BYTES, "%.300s is no map of YAML%s%.100s", path,
                 parser.problem == NULL ? "" : ": ", parser.problem == NULL ? "" : parser.problem);
        json_decref(object);
        object = NULL;
    }
    yaml_parser_delete(&parser);
    fclose(file);
    return object;
}
