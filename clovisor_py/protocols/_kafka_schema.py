"""The APIs of Kafka 0.8 to 4.2: their names, their versions, and where in their messages the few things are that we tell.

Made from the message definitions of Kafka 3.9 (the last to know the oldest versions) and 4.2. A layout lists the fields of a
body in order; `_kafka_layout` compiles it for one version.

    4             so many bytes that tell nothing (numbers, booleans)
    string bytes  a length and as many bytes that tell nothing; `records`: record batches, which are counted
    topic group name topic_id partition offset acks error     a field that is told, under the name of its role
    known id      a topic's name and then its id: they are remembered, because later messages name topics by id only
    topic*        an array of plain values
    [ … ]         an array of structures;  { … } a structure;  ?{ … } a structure that may be absent
    4@3+ 4@-2 4@1-2    a field that only these versions have
    ...           nothing that follows is told: it is not read

Flexible versions have the same layouts: lengths are variable then, and tagged fields end every structure.

Specification: https://kafka.apache.org/protocol.html, and clients/src/main/resources/common/message/ in Kafka's sources.
"""

from __future__ import annotations

from typing import Final, NamedTuple

NEVER: Final = 1 << 15
"""First flexible version of an API that has none: above all versions."""


class Api(NamedTuple):
    """One API; a key stays the same for ever, versions are added."""

    name: str
    newest: int
    """The newest version that the layouts cover."""
    flexible: int
    """The first version with variable lengths and tagged fields."""
    request: str
    response: str


PRODUCE: Final = 0
FETCH: Final = 1
CONTROLLED_SHUTDOWN: Final = 7
SASL_HANDSHAKE: Final = 17
API_VERSIONS: Final = 18
SASL_AUTHENTICATE: Final = 36
SHARE_FETCH: Final = 78

# fmt: off
APIS: Final[dict[int, Api]] = {
    0: Api(
        "Produce", 13, 9,
        "string@3+ acks 4 [topic_id@13+ topic@-12 [partition records]]",
        "[16@13+ string@-12 [partition error offset 8@2+ 8@5+ [4 string]@8+ string@8+]] 4@1+",
    ),
    1: Api(
        "Fetch", 18, 12,
        "4@-14 8 4@3+ 1@4+ 8@7+ [topic_id@13+ topic@-12 [partition 4@9+ offset 4@12+ 8@5+ 4]] ...",
        "4@1+ error@7+ 4@7+ [topic_id@13+ topic@-12 [partition error 8 8@4+ 8@5+ [16]@4+ 4@11+ records]]",
    ),
    2: Api("ListOffsets", 11, 6, "4 1@2+ [topic [partition 4@4+ 8 4@-0]] 4@10+", "4@2+ [string [4 error 16@1+ 4@4+ 8*@-0]]"),
    3: Api(
        "Metadata", 13, 9,
        "[topic_id@10+ topic] 1@4+ 1@8-10 1@8+",
        "4@3+ [4 string 4 string@1+] string@2+ 4@1+ [error known id@10+ 1@1+ [error 8 4@7+ 4* 4* 4*@5+] 4@8+] error@13+ "
        "4@8-10",
    ),
    4: Api(
        "LeaderAndIsr", 7, 4,
        "4 1@7+ 4 8@2+ 1@5+ [topic topic_id@5+ [partition 12 4* 4 4* 4*@3+ 4*@3+ 1 1@6+]]@2+ [topic partition 12 4* 4 4* "
        "1@1+]@-1 [4 string 4]",
        "error [16 [4 error]]@5+ [string 4 error]@-4",
    ),
    5: Api(
        "StopReplica", 4, 2,
        "4 1@4+ 4 8@1+ [topic [partition 5]]@3+ 1@-2 [topic partition*]@1-2 [topic partition]@-0",
        "error [string 4 error]",
    ),
    6: Api(
        "UpdateMetadata", 8, 6,
        "4 1@8+ 4 8@5+ [topic topic_id@7+ [partition 12 4* 4 4* 4*]]@5+ [topic partition 12 4* 4 4* 4*@4+]@-4 ...",
        "error",
    ),
    7: Api("ControlledShutdown", 3, 3, "4 8@2+", "error [string 4]"),
    8: Api(
        "OffsetCommit", 10, 8,
        "group 4@1+ string@1+ string@7+ 8@2-4 [topic_id@10+ topic@-9 [partition offset 4@6+ 8@1-1 string]]",
        "4@3+ [16@10+ string@-9 [4 error]]",
    ),
    9: Api(
        "OffsetFetch", 10, 6,
        "[group string@9+ 4@9+ [topic_id@10+ topic@-9 partition*]]@8+ group@-7 [topic partition*]@-7 1@7+",
        "4@3+ [string [16@10+ string@-9 [16 string error]] error]@8+ [string [12 4@5+ string error]]@-7 error@2-7",
    ),
    10: Api("FindCoordinator", 6, 3, "name@-3 1@1+ name*@4+", "4@1+ [string 4 string 4 error string]@4+ error@-3 ..."),
    11: Api("JoinGroup", 9, 6, "group ...", "4@2+ error ..."),
    12: Api("Heartbeat", 4, 4, "group 4 string string@3+", "4@1+ error"),
    13: Api("LeaveGroup", 5, 4, "group ...", "4@1+ error [string string error]@3+"),
    14: Api("SyncGroup", 5, 4, "group ...", "4@1+ error ..."),
    15: Api(
        "DescribeGroups", 6, 5,
        "group* 1@3+",
        "4@1+ [error string@6+ string string string string [string string@4+ string string bytes bytes] 4@3+]",
    ),
    16: Api("ListGroups", 5, 3, "string*@4+ string*@5+", "4@1+ error ..."),
    17: Api("SaslHandshake", 1, NEVER, "name", "error string*"),
    18: Api("ApiVersions", 4, 3, "string@3+ string@3+", "error ..."),
    19: Api(
        "CreateTopics", 7, 5,
        "[topic 6 [4 4*] [string string]] 4 1@1+",
        "4@2+ [known id@7+ error string@1+ 6@5+ [string string 3]@5+]",
    ),
    20: Api("DeleteTopics", 6, 4, "[topic topic_id]@6+ topic*@-5 4", "4@1+ [string 16@6+ error string@5+]"),
    21: Api("DeleteRecords", 2, 2, "[topic [partition 8]] 4", "4 [string [12 error]]"),
    22: Api("InitProducerId", 6, 2, "name 4 10@3+ 2@6+", "4 error 10 10@6+"),
    23: Api("OffsetForLeaderEpoch", 4, 4, "4@3+ [topic [partition 4@2+ 4]]", "4@2+ [string [error 4 4@1+ 8]]"),
    24: Api(
        "AddPartitionsToTxn", 5, 3,
        "[string 11 [topic partition*]]@4+ string@-3 10@-3 [topic partition*]@-3",
        "4 error@4+ [string [string [4 error]]]@4+ [string [4 error]]@-3",
    ),
    25: Api("AddOffsetsToTxn", 4, 3, "name 10 group", "4 error"),
    26: Api("EndTxn", 5, 3, "name 11", "4 error 10@5+"),
    27: Api("WriteTxnMarkers", 2, 1, "[11 [topic partition*] 4 1@2+]", "[8 [string [4 error]]]"),
    28: Api(
        "TxnOffsetCommit", 5, 3,
        "string group 10 4@3+ string@3+ string@3+ [topic [partition offset 4@2+ string]]",
        "4 [string [4 error]]",
    ),
    29: Api("DescribeAcls", 3, 2, "...", "4 error ..."),
    30: Api("CreateAcls", 3, 2, "...", "4 [error string]"),
    31: Api("DeleteAcls", 3, 2, "...", "4 [error string [error string 1 string 1@1+ string string 2]]"),
    32: Api(
        "DescribeConfigs", 4, 4,
        "[1 name string*] 1@1+ 1@3+",
        "4 [error string 1 string [string string 1 1@1+ 1@-0 1 [string string 1]@1+ 1@3+ string@3+]]",
    ),
    33: Api("AlterConfigs", 2, 2, "[1 name [string string]] 1", "4 [error string 1 string]"),
    34: Api("AlterReplicaLogDirs", 2, 2, "[string [topic partition*]]", "4 [string [4 error]]"),
    35: Api("DescribeLogDirs", 4, 2, "[topic partition*]", "4 error@3+ [error string [string [21]] 16@4+]"),
    36: Api("SaslAuthenticate", 2, 2, "bytes", "error string bytes 8@1+"),
    37: Api("CreatePartitions", 3, 2, "[topic 4 [4*]] 5", "4 [string error string]"),
    38: Api("CreateDelegationToken", 3, 2, "...", "error ..."),
    39: Api("RenewDelegationToken", 2, 2, "bytes 8", "error 12"),
    40: Api("ExpireDelegationToken", 2, 2, "bytes 8", "error 12"),
    41: Api("DescribeDelegationToken", 3, 2, "[string string]", "error ..."),
    42: Api("DeleteGroups", 2, 2, "group*", "4 [string error]"),
    43: Api("ElectLeaders", 2, 2, "1@1+ [topic partition*] 4", "4 error@1+ [string [4 error string]]"),
    44: Api("IncrementalAlterConfigs", 1, 1, "[1 name [string 1 string]] 1", "4 [error string 1 string]"),
    45: Api(
        "AlterPartitionReassignments", 1, 0,
        "4 1@1+ [topic [partition 4*]]",
        "4 1@1+ error string [string [4 error string]]",
    ),
    46: Api("ListPartitionReassignments", 0, 0, "4 [topic partition*]", "4 error ..."),
    47: Api("OffsetDelete", 0, NEVER, "group [topic [partition]]", "error 4 [string [4 error]]"),
    48: Api("DescribeClientQuotas", 1, 1, "[string 1 string] 1", "4 error ..."),
    49: Api("AlterClientQuotas", 1, 1, "...", "4 [error string [string string]]"),
    50: Api("DescribeUserScramCredentials", 0, 0, "[string]", "4 error string [string error string [5]]"),
    51: Api("AlterUserScramCredentials", 0, 0, "...", "4 [string error string]"),
    52: Api("Vote", 2, 0, "string 4@1+ [topic [partition 8 32@1+ 12 1@2+]]", "error [string [4 error 9]]"),
    53: Api(
        "BeginQuorumEpoch", 1, 1,
        "string 4@1+ [topic [partition 16@1+ 8]] [string string 2]@1+",
        "error [string [4 error 8]]",
    ),
    54: Api(
        "EndQuorumEpoch", 1, 1,
        "string [topic [partition 8 [20]@1+ 4*@-0]] [string string 2]@1+",
        "error [string [4 error 8]]",
    ),
    55: Api(
        "DescribeQuorum", 2, 0,
        "[topic [partition]]",
        "error string@2+ [string [4 error string@2+ 16 [4 16@2+ 8 16@1+] [4 16@2+ 8 16@1+]]] [4 [string string 2]]@2+",
    ),
    56: Api(
        "AlterPartition", 3, 0,
        "12 [topic_id@2+ topic@-1 [partition 4 [12]@3+ 4*@-2 1@1+ 4]]",
        "4 error [16@2+ string@-1 [4 error 8 4* 1@1+ 4]]",
    ),
    57: Api("UpdateFeatures", 2, 0, "...", "4 error string [string error string]@-1"),
    58: Api("Envelope", 0, 0, "bytes bytes bytes", "bytes error"),
    59: Api("FetchSnapshot", 1, 0, "8 [topic [partition 4 {12} 8]]", "4 error [string [4 error {12} 16 bytes]]"),
    60: Api("DescribeCluster", 2, 0, "1 1@1+ 1@2+", "4 error ..."),
    61: Api("DescribeProducers", 0, 0, "[topic partition*]", "4 [string [4 error string [36]]]"),
    62: Api("BrokerRegistration", 4, 0, "...", "4 error 8"),
    63: Api("BrokerHeartbeat", 1, 0, "22", "4 error 3"),
    64: Api("UnregisterBroker", 0, 0, "4", "4 error string"),
    65: Api("DescribeTransactions", 0, 0, "name*", "4 [error string string 22 [string 4*]]"),
    66: Api("ListTransactions", 2, 0, "...", "4 error ..."),
    67: Api("AllocateProducerIds", 0, 0, "12", "4 error 12"),
    68: Api("ConsumerGroupHeartbeat", 1, 0, "group ...", "4 error ..."),
    69: Api(
        "ConsumerGroupDescribe", 1, 0,
        "group* 1",
        "4 [error string string string 8 string [string string string 4 string string string* string {[16 string 4*]} "
        "{[16 string 4*]} 1@1+] 4]",
    ),
    70: Api("ControllerRegistration", 0, 0, "...", "4 error string"),
    71: Api("GetTelemetrySubscriptions", 0, 0, "16", "4 error 20 1* 9 string*"),
    72: Api("PushTelemetry", 0, 0, "22 bytes", "4 error"),
    73: Api("AssignReplicasToDirs", 0, 0, "12 [16 [topic_id [partition]]]", "4 error [16 [16 [4 error]]]"),
    74: Api("ListConfigResources", 1, 0, "1*@1+", "4 error [string 1@1+]"),
    75: Api(
        "DescribeTopicPartitions", 0, 0,
        "[topic] 4 ?{string 4}",
        "4 [error known id 1 [error 12 4* 4* 4* 4* 4*] 4] ?{string 4}",
    ),
    76: Api("ShareGroupHeartbeat", 1, 1, "group string 4 string string*", "4 error ..."),
    77: Api(
        "ShareGroupDescribe", 1, 1,
        "group* 1",
        "4 [error string string string 8 string [string string 4 string string string* {[16 string 4*]}] 4]",
    ),
    78: Api(
        "ShareFetch", 2, 1,
        "group string 24 2@2+ [topic_id [partition [16 1*]]] [16 4*]",
        "4 error string 4 [topic_id [partition error string error string {8} records [18]]] [4 string 4 string]",
    ),
    79: Api(
        "ShareAcknowledge", 2, 1,
        "group string 4 1@2+ [topic_id [partition [16 1*]]]",
        "4 error string 4@2+ [16 [4 error string {8}]] [4 string 4 string]",
    ),
    80: Api("AddRaftVoter", 1, 0, "...", "4 error string"),
    81: Api("RemoveRaftVoter", 0, 0, "string 20", "4 error string"),
    82: Api("UpdateRaftVoter", 0, 0, "...", "4 error"),
    83: Api("InitializeShareGroupState", 0, 0, "group [topic_id [partition 12]]", "[16 [4 error string]]"),
    84: Api("ReadShareGroupState", 0, 0, "group [topic_id [partition 4]]", "[16 [4 error string 12 [19]]]"),
    85: Api("WriteShareGroupState", 1, 0, "group [topic_id [partition 16 4@1+ [19]]]", "[16 [4 error string]]"),
    86: Api("DeleteShareGroupState", 0, 0, "group [topic_id [partition]]", "[16 [4 error string]]"),
    87: Api("ReadShareGroupStateSummary", 1, 0, "group [topic_id [partition 4]]", "[16 [4 error string 16 4@1+]]"),
    88: Api("StreamsGroupHeartbeat", 0, 0, "group ...", "4 error ..."),
    89: Api(
        "StreamsGroupDescribe", 0, 0,
        "group* 1",
        "4 [error string string string 8 ?{4 [string string* string* [string 6 [string string]] [string 6 [string "
        "string]]]} [string 4 string string string string 4 string ?{string 2} [string string] [string 12] [string 12] "
        "{[string 4*] [string 4*] [string 4*]} {[string 4*] [string 4*] [string 4*]} 1] 4]",
    ),
    90: Api(
        "DescribeShareGroupOffsets", 1, 0,
        "[group [topic partition*]]",
        "4 [string [string 16 [16 8@1+ error string]] error string]",
    ),
    91: Api("AlterShareGroupOffsets", 0, 0, "group [topic [partition 8]]", "4 error string [string 16 [4 error string]]"),
    92: Api("DeleteShareGroupOffsets", 0, 0, "group [topic]", "4 error string [string 16 error string]"),
}
# fmt: on
"""By API key."""
