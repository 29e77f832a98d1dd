/*
 * perdure-chaos-insync BROKERS: prints how many partitions of the cluster lack an in-sync replica, and exits with 0 if
 * none does: only then may the next broker be harmed.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>

static int lacking(const struct rd_kafka_metadata *metadata)
{
    int count = 0;
    for (int t = 0; t < metadata->topic_cnt; t++)
        for (int p = 0; p < metadata->topics[t].partition_cnt; p++) {
            const rd_kafka_metadata_partition_t *partition = &metadata->topics[t].partitions[p];
            count += partition->leader < 0 || partition->isr_cnt < partition->replica_cnt;
        }
    return count;
}

int main(int argc, char **argv)
{
    char error[256] = "";
    const struct rd_kafka_metadata *metadata;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (argc != 2 || rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], error, sizeof error) != RD_KAFKA_CONF_OK ||
        rd_kafka_conf_set(conf, "log_level", "0", error, sizeof error) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "usage: perdure-chaos-insync BROKERS\n%s\n", error);
        return 2;
    }
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    rd_kafka_resp_err_t code = client ? rd_kafka_metadata(client, 1, NULL, &metadata, 10000) : RD_KAFKA_RESP_ERR__FAIL;
    if (code) {
        fprintf(stderr, "perdure-chaos-insync: %s\n", client ? rd_kafka_err2str(code) : error);
        return 5;
    }
    int count = lacking(metadata);
    printf("%d\n", count);
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_destroy(client);
    return count > 0;
}
