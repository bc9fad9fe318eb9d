//! Where things are in the kernel's structures. All numbers are in host byte order.

use crate::nft::TableFamily;

/// Longest name of a table, its NUL included, bytes (`XT_TABLE_MAXNAMELEN`)
pub(super) const NAME: usize = 32;
/// `NF_INET_NUMHOOKS`
pub(super) const HOOKS: usize = 5;
/// What entries and their parts are aligned to (`XT_ALIGN`): the alignment of the 64-bit counters
/// in C.
pub(super) const ALIGN: usize = align_of::<u64>();

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Length of `struct ipt_getinfo`, bytes; the same for IPv6
pub(super) const INFO: usize = NAME + 4 * (1 + 2 * HOOKS + 2);
/// Length of `struct ipt_get_entries` without the entries, bytes
pub(super) const GET_ENTRIES: usize = aligned(NAME + 4);
/// Where `struct ipt_replace` says where to put the counters of what is replaced
pub(super) const REPLACE_COUNTERS: usize = NAME + 4 * (3 + 2 * HOOKS + 1);
/// Length of `struct ipt_replace` without the entries, bytes
pub(super) const REPLACE: usize = aligned(REPLACE_COUNTERS + size_of::<usize>());
/// Length of `struct xt_counters_info` without the counters, bytes
pub(super) const COUNTERS_INFO: usize = aligned(NAME + 4);
/// Length of `struct xt_counters`, bytes: packets and bytes
pub(super) const COUNTERS: usize = 16;

/// Length of `struct xt_entry_target` without its data, bytes
pub(super) const TARGET: usize = 32;
/// Where it has its name, and how long that is with its NUL
pub(super) const TARGET_NAME: usize = 2;
pub(super) const TARGET_NAME_LEN: usize = 29;
/// Length of the name in `struct xt_error_target`
pub(super) const ERROR_NAME_LEN: usize = 30;

/// `struct ipt_entry` or `struct ip6t_entry`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Where `target_offset` is; `next_offset` follows it
    pub(super) offsets: usize,
    /// Its length without matches and target
    pub(super) len: usize,
}

/// `struct ipt_ip` or `struct ip6t_ip6`, then `nfcache`; the offsets; `comefrom`; the counters.
const fn entry(selector: usize) -> Entry {
    let offsets = selector + 4;
    Entry { offsets, len: aligned(offsets + 4 + 4) + COUNTERS }
}

const IPV4: Entry = entry(84);
const IPV6: Entry = entry(136);

impl Entry {
    pub(super) const fn of(family: TableFamily) -> Entry {
        match family {
            TableFamily::Ip => IPV4,
            TableFamily::Ip6 => IPV6,
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The bytes before the first NUL of a field.
pub(super) fn text_at(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)?.split(|byte| *byte == 0).next()
}

/// A name in a field of [`NAME`] bytes; `None` if it is too long.
pub(super) fn name_field(name: &str) -> Option<[u8; NAME]> {
    let mut field = [0; NAME];
    field.get_mut(..name.len()).filter(|_| name.len() < NAME)?.copy_from_slice(name.as_bytes());
    Some(field)
}
