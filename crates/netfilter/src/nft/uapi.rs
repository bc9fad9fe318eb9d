//! Numbers of linux/netfilter/nf_tables.h and linux/netfilter/nfnetlink.h.

/// `NFNL_SUBSYS_NFTABLES`, as the high byte of a message type
const SUBSYSTEM: u16 = 10 << 8;

pub(crate) const BATCH_BEGIN: u16 = 0x10;
pub(crate) const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`, as the resource of a batch
pub(crate) const BATCH_RESOURCE: u16 = 10;
/// `NFNL_BATCH_GENID`
pub(crate) const BATCH_GENERATION: u16 = 1;

// enum nf_tables_msg_types
pub(crate) const NEWTABLE: u16 = SUBSYSTEM;
pub(crate) const GETTABLE: u16 = SUBSYSTEM + 1;
pub(crate) const DELTABLE: u16 = SUBSYSTEM + 2;
pub(crate) const NEWCHAIN: u16 = SUBSYSTEM + 3;
pub(crate) const GETCHAIN: u16 = SUBSYSTEM + 4;
pub(crate) const DELCHAIN: u16 = SUBSYSTEM + 5;
pub(crate) const NEWRULE: u16 = SUBSYSTEM + 6;
pub(crate) const GETRULE: u16 = SUBSYSTEM + 7;
pub(crate) const DELRULE: u16 = SUBSYSTEM + 8;
pub(crate) const NEWSET: u16 = SUBSYSTEM + 9;
pub(crate) const GETSET: u16 = SUBSYSTEM + 10;
pub(crate) const DELSET: u16 = SUBSYSTEM + 11;
pub(crate) const NEWSETELEM: u16 = SUBSYSTEM + 12;
pub(crate) const GETSETELEM: u16 = SUBSYSTEM + 13;
pub(crate) const DELSETELEM: u16 = SUBSYSTEM + 14;
pub(crate) const NEWGEN: u16 = SUBSYSTEM + 15;
pub(crate) const GETGEN: u16 = SUBSYSTEM + 16;
pub(crate) const TRACE: u16 = SUBSYSTEM + 17;
pub(crate) const DESTROYSETELEM: u16 = SUBSYSTEM + 30;

/// Attribute types; the prefix says the object.
pub(crate) mod attr {
    pub(crate) const GEN_ID: u16 = 1;

    // enum nft_table_attributes
    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const TABLE_FLAGS: u16 = 2;
    pub(crate) const TABLE_USERDATA: u16 = 6;

    // enum nft_chain_attributes, nft_hook_attributes
    pub(crate) const CHAIN_TABLE: u16 = 1;
    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const CHAIN_USERDATA: u16 = 12;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;

    // enum nft_rule_attributes
    pub(crate) const RULE_TABLE: u16 = 1;
    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_HANDLE: u16 = 3;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;
    pub(crate) const RULE_USERDATA: u16 = 7;

    /// `NFTA_LIST_ELEM`
    pub(crate) const LIST_ELEMENT: u16 = 1;

    // enum nft_set_attributes, nft_set_desc_attributes, nft_set_field_attributes
    pub(crate) const SET_TABLE: u16 = 1;
    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const SET_FLAGS: u16 = 3;
    pub(crate) const SET_KEY_TYPE: u16 = 4;
    pub(crate) const SET_KEY_LEN: u16 = 5;
    pub(crate) const SET_DATA_TYPE: u16 = 6;
    pub(crate) const SET_DATA_LEN: u16 = 7;
    pub(crate) const SET_DESC: u16 = 9;
    pub(crate) const SET_ID: u16 = 10;
    pub(crate) const SET_GC_INTERVAL: u16 = 12;
    pub(crate) const SET_USERDATA: u16 = 13;
    /// `NFTA_SET_COUNT`, kernel 6.16
    pub(crate) const SET_COUNT: u16 = 20;
    pub(crate) const SET_DESC_SIZE: u16 = 1;
    pub(crate) const SET_DESC_CONCAT: u16 = 2;
    pub(crate) const SET_FIELD_LEN: u16 = 1;

    // enum nft_set_elem_list_attributes, nft_set_elem_attributes
    pub(crate) const LIST_TABLE: u16 = 1;
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;
    pub(crate) const ELEMENT_KEY: u16 = 1;
    pub(crate) const ELEMENT_DATA: u16 = 2;
    pub(crate) const ELEMENT_TIMEOUT: u16 = 4;
    pub(crate) const ELEMENT_EXPIRATION: u16 = 5;
    pub(crate) const ELEMENT_USERDATA: u16 = 6;
    pub(crate) const ELEMENT_KEY_END: u16 = 10;

    // enum nft_data_attributes, nft_verdict_attributes
    pub(crate) const DATA_VALUE: u16 = 1;
    pub(crate) const DATA_VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;

    // enum nft_expr_attributes, and those of each expression
    pub(crate) const EXPR_NAME: u16 = 1;
    pub(crate) const EXPR_DATA: u16 = 2;
    pub(crate) const MATCH_NAME: u16 = 1;
    pub(crate) const MATCH_INFO: u16 = 3;
    pub(crate) const META_SREG: u16 = 3;
    pub(crate) const IMMEDIATE_DREG: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;
    pub(crate) const BITWISE_SREG: u16 = 1;
    pub(crate) const BITWISE_DREG: u16 = 2;
    pub(crate) const BITWISE_LEN: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;
    pub(crate) const BITWISE_OP: u16 = 6;
    pub(crate) const CMP_SREG: u16 = 1;
    pub(crate) const CMP_OP: u16 = 2;
    pub(crate) const CMP_DATA: u16 = 3;
    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_SREG: u16 = 2;
    pub(crate) const LOOKUP_DREG: u16 = 3;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;
    pub(crate) const DYNSET_SET_NAME: u16 = 1;
    pub(crate) const DYNSET_OP: u16 = 3;
    pub(crate) const DYNSET_SREG_KEY: u16 = 4;
    pub(crate) const DYNSET_SREG_DATA: u16 = 5;
    pub(crate) const DYNSET_TIMEOUT: u16 = 6;
    pub(crate) const DYNSET_EXPR: u16 = 7;
    pub(crate) const DYNSET_FLAGS: u16 = 9;
    pub(crate) const DYNSET_EXPRESSIONS: u16 = 10;
    pub(crate) const PAYLOAD_DREG: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LEN: u16 = 4;
    pub(crate) const META_DREG: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;
    pub(crate) const CT_DREG: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    pub(crate) const CT_DIRECTION: u16 = 3;
    pub(crate) const FIB_DREG: u16 = 1;
    pub(crate) const FIB_RESULT: u16 = 2;
    pub(crate) const FIB_FLAGS: u16 = 3;
    pub(crate) const NUMGEN_DREG: u16 = 1;
    pub(crate) const NUMGEN_MODULUS: u16 = 2;
    pub(crate) const NUMGEN_TYPE: u16 = 3;
    pub(crate) const NUMGEN_OFFSET: u16 = 4;
    pub(crate) const NAT_TYPE: u16 = 1;
    pub(crate) const NAT_FAMILY: u16 = 2;
    pub(crate) const NAT_REG_ADDR_MIN: u16 = 3;
    pub(crate) const NAT_REG_ADDR_MAX: u16 = 4;
    pub(crate) const NAT_REG_PROTO_MIN: u16 = 5;
    pub(crate) const NAT_REG_PROTO_MAX: u16 = 6;
    pub(crate) const NAT_FLAGS: u16 = 7;
    pub(crate) const MASQ_FLAGS: u16 = 1;
    pub(crate) const MASQ_REG_PROTO_MIN: u16 = 2;
    pub(crate) const REJECT_TYPE: u16 = 1;
    pub(crate) const REJECT_CODE: u16 = 2;

    // enum nft_trace_attributes
    pub(crate) const TRACE_TABLE: u16 = 1;
    pub(crate) const TRACE_CHAIN: u16 = 2;
    pub(crate) const TRACE_RULE_HANDLE: u16 = 3;
    pub(crate) const TRACE_TYPE: u16 = 4;
    pub(crate) const TRACE_VERDICT: u16 = 5;
    pub(crate) const TRACE_ID: u16 = 6;
    pub(crate) const TRACE_NETWORK_HEADER: u16 = 8;
    pub(crate) const TRACE_TRANSPORT_HEADER: u16 = 9;
    pub(crate) const TRACE_IIF: u16 = 10;
    pub(crate) const TRACE_OIF: u16 = 12;
    pub(crate) const TRACE_MARK: u16 = 14;
    pub(crate) const TRACE_POLICY: u16 = 16;
}
