//! Reading and replacing tables. The kernel offers that as options of any socket of the family.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::layout::{
    COUNTERS, COUNTERS_INFO, GET_ENTRIES, INFO, NAME, REPLACE, REPLACE_COUNTERS, name_field,
};
use super::table::{Info, Malformed, Reduced, Table};
use crate::nft::TableFamily;

// The same numbers for both families: IPT_SO_*, IP6T_SO_*
const GET_INFO: libc::c_int = 64;
const GET_TABLE: libc::c_int = 65;
const SET_REPLACE: libc::c_int = 64;
const SET_ADD_COUNTERS: libc::c_int = 65;

/// How often reading starts over when the table is replaced meanwhile
const READ_ATTEMPTS: usize = 10;

/// The tables that exist in the calling thread's network namespace; none where the kernel has no
/// x_tables. Asking for another would create it, and load kernel modules for it.
pub fn tables(family: TableFamily) -> io::Result<Vec<String>> {
    let path = match family {
        TableFamily::Ip => "/proc/thread-self/net/ip_tables_names",
        TableFamily::Ip6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match std::fs::read_to_string(path) {
        Ok(names) => Ok(names.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Why a table was not replaced, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It has another number of entries by now. Nothing was done.
    #[error("the table has changed since it was read")]
    Stale,
    /// The kernel refuses. Nothing was done.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The table is replaced, but what had been counted before is lost.
    #[error("the table is replaced, but its counters start at zero: {0}")]
    Counters(io::Error),
}

/// Access to the tables of one family in one network namespace. Needs `CAP_NET_ADMIN`.
#[derive(Debug)]
pub struct Xtables {
    fd: OwnedFd,
    family: TableFamily,
}

impl Xtables {
    /// Opens it for the calling thread's network namespace.
    pub fn open(family: TableFamily) -> io::Result<Xtables> {
        // Datagrams, as that needs no capability; none is ever sent.
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(family.number().into(), libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Xtables { fd, family })
    }

    /// Reads a table. It should be one of [`tables`].
    pub fn read(&self, name: &str) -> io::Result<Table> {
        let field = name_field(name).ok_or_else(|| invalid("the name of a table is too long"))?;
        for _ in 0..READ_ATTEMPTS {
            let info = self.ask_info(&field)?;
            let mut bytes = vec![0; GET_ENTRIES + info.size as usize];
            bytes[..NAME].copy_from_slice(&field);
            bytes[NAME..NAME + 4].copy_from_slice(&info.size.to_ne_bytes());
            match self.get(GET_TABLE, &mut bytes) {
                // Of another size by now
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    bytes.drain(..GET_ENTRIES);
                    return match Table::parse(self.family, name, info, bytes) {
                        Ok(table) => Ok(table),
                        // Of the same size by now, and otherwise different
                        Err(_) if self.ask_info(&field)? != info => continue,
                        Err(malformed) => Err(from_malformed(malformed)),
                    };
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the table changes faster than it can be read"))
    }

    /// What the kernel says about a table, without its entries: one small call. It should be one of
    /// [`tables`].
    pub fn info(&self, name: &str) -> io::Result<Info> {
        self.ask_info(&name_field(name).ok_or_else(|| invalid("the name of a table is too long"))?)
    }

    fn ask_info(&self, field: &[u8; NAME]) -> io::Result<Info> {
        let mut bytes = vec![0; INFO];
        bytes[..NAME].copy_from_slice(field);
        self.get(GET_INFO, &mut bytes)?;
        Info::parse(&bytes).ok_or_else(|| invalid("the kernel says too little about a table"))
    }

    /// Replaces a table by what is left of it, for packets at one moment; counters of what stays go
    /// on. Only a lock that all programs respect keeps others from changing the table after it was
    /// read: the kernel compares no more than the number of entries.
    pub fn replace(&self, old: &Table, new: &Reduced) -> Result<(), ReplaceError> {
        let (table, info) = (&new.table, new.table.info());
        let field = name_field(table.name()).ok_or_else(|| invalid("the name of a table is too long"))?;
        let mut counted = vec![0u8; old.entries() * COUNTERS];

        let mut request = vec![0; REPLACE];
        request[..NAME].copy_from_slice(&field);
        let numbers = [info.valid_hooks, info.entries, info.size]
            .into_iter()
            .chain(info.hook_entry)
            .chain(info.underflow)
            .chain([old.info().entries]);
        for (place, number) in request[NAME..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        let pointer = counted.as_mut_ptr().expose_provenance().to_ne_bytes();
        request[REPLACE_COUNTERS..REPLACE_COUNTERS + pointer.len()].copy_from_slice(&pointer);
        request.extend_from_slice(table.as_bytes());
        // SAFETY: `counted`, which `request` leads to, has room for the counters of as many entries
        // as the request says, and lives until the call returns. The kernel writes no more there,
        // or nothing at all.
        match unsafe { self.set(SET_REPLACE, &request) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Err(ReplaceError::Stale),
            result => result?,
        }

        let mut request = vec![0; COUNTERS_INFO];
        request[..NAME].copy_from_slice(&field);
        request[NAME..NAME + 4].copy_from_slice(&info.entries.to_ne_bytes());
        for origin in &new.origins {
            request.extend_from_slice(&counted[origin * COUNTERS..][..COUNTERS]);
        }
        // SAFETY: this request leads nowhere.
        unsafe { self.set(SET_ADD_COUNTERS, &request) }.map_err(ReplaceError::Counters)
    }

    fn level(&self) -> libc::c_int {
        match self.family {
            TableFamily::Ip => libc::SOL_IP,
            TableFamily::Ip6 => libc::SOL_IPV6,
        }
    }

    fn get(&self, option: libc::c_int, bytes: &mut [u8]) -> io::Result<()> {
        let too_long = || invalid("the table is larger than the kernel can report");
        let mut len = libc::socklen_t::try_from(bytes.len()).map_err(|_| too_long())?;
        // SAFETY: `bytes` is as long as `len` says; both live until the call returns.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                self.level(),
                option,
                bytes.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// # Safety
    ///
    /// Where the request contains the address of memory, the kernel may write there as it says for
    /// the option.
    unsafe fn set(&self, option: libc::c_int, bytes: &[u8]) -> io::Result<()> {
        let too_long = || invalid("the table is larger than the kernel can take");
        let len = libc::socklen_t::try_from(bytes.len()).map_err(|_| too_long())?;
        // SAFETY: `bytes` is as long as `len` says and lives until the call returns; for what it
        // leads to the caller answers.
        let result = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), self.level(), option, bytes.as_ptr().cast(), len)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn from_malformed(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}
