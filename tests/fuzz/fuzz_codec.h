/* Which reader of the codec an input of fuzz_codec is for: its first byte, by the place in this list.
 * The kept corpus rests on the order: new nouns go to the end. */
#ifndef KELP_TESTS_FUZZ_FUZZ_CODEC_H
#define KELP_TESTS_FUZZ_FUZZ_CODEC_H

#define FUZZ_CODEC_NOUNS(noun)                                                                     \
    noun(record) noun(command) noun(object_put) noun(object_remove) noun(pod_status)               \
        noun(pod_ended) noun(pod_attempt) noun(node_status) noun(edge_event) noun(verdict)         \
            noun(session_open) noun(down_ack) noun(batch) noun(snapshot) noun(stream_init)         \
                noun(cluster_init) noun(setting) noun(gap) noun(hello) noun(welcome) noun(ack)     \
                    noun(ping) noun(bye) noun(peer_hello) noun(raft_wire) noun(forward)            \
                        noun(read_index) noun(sessions) noun(frame) noun(twin) noun(twin_update)   \
                            noun(device_state) noun(outbox_done) noun(device_status)               \
                                noun(device_value) noun(mqtt_message) noun(publication)            \
                                    noun(peer_status) noun(member_ask) noun(member_answer)     \
                                        noun(state_ask) noun(state_range) noun(member_key)

#define FUZZ_CODEC_NUMBER(noun) FUZZ_CODEC_##noun,
enum fuzz_codec { FUZZ_CODEC_NOUNS(FUZZ_CODEC_NUMBER) FUZZ_CODEC_COUNT };

#endif
