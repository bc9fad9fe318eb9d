//! Reading a journal: which record of each object is the last, then those records.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::LoadError;
use super::record::{self, BODY_AT_MOST, Entry, HEADER, MAGIC, OLDEST, Operation, PREFIX, Record, VERSION};

/// Bytes read at a time.
const BUFFER: usize = 64 << 10;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// When the newest record that is used was written.
    pub taken: SystemTime,
    /// How many objects there are.
    pub objects: usize,
    /// They have all fields that are read today. Else an earlier release wrote them, and the API
    /// server may say more about the same version of an object.
    pub whole: bool,
    /// What could not be used.
    pub damage: Option<Damage>,
}

/// The end of a journal that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins, in bytes from the start of the file.
    pub at: u64,
    /// How many bytes of the file are not used.
    pub lost: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// Reads the journal at `path`: what is left of each object, in the order of its last record. None
/// if there is no file, or nothing in it.
pub fn read(path: &Path, entry: impl FnMut(&Entry<'_>)) -> Result<Option<Loaded>, LoadError> {
    match File::open(path) {
        Ok(file) => read_from(file, entry),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// [`read`] from what is open. Holds names and positions, and one record at a time.
pub fn read_from(
    mut file: impl Read + Seek,
    mut entry: impl FnMut(&Entry<'_>),
) -> Result<Option<Loaded>, LoadError> {
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let version = read_header(&mut reader)?;
    let mut last: HashMap<Box<[u8]>, u64> = HashMap::new();
    let mut taken = UNIX_EPOCH;
    let mut at = HEADER as u64;
    let mut body = Vec::new();
    let damage = loop {
        match read_record(&mut reader, &mut body) {
            Ok(Some(Record { operation, time, entry })) => {
                let key = key(&entry);
                match operation {
                    Operation::Put => drop(last.insert(key, at)),
                    Operation::Delete => drop(last.remove(&key)),
                }
                taken = taken.max(time);
                at += (PREFIX + body.len()) as u64;
            }
            Ok(None) => break None,
            Err(Bad::Damaged(reason)) => break Some(Damage { at, lost: size.saturating_sub(at), reason }),
            Err(Bad::Read(error)) => return Err(error.into()),
        }
    };
    let mut positions: Vec<u64> = last.into_values().collect();
    positions.sort_unstable();
    for position in &positions {
        // Stays in the buffer where it can.
        let here = reader.stream_position()?;
        reader.seek_relative(position.cast_signed().wrapping_sub(here.cast_signed()))?;
        // It could be read a moment ago; if it no longer can, the file is changing under us.
        let record = read_record(&mut reader, &mut body).map_err(Bad::into_io)?;
        let record = record.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        entry(&record.entry);
    }
    let nothing = at == HEADER as u64;
    let whole = version == VERSION;
    Ok((!nothing).then_some(Loaded { taken, objects: positions.len(), whole, damage }))
}

/// Returns the version of the format.
fn read_header(reader: &mut impl Read) -> Result<u32, LoadError> {
    let mut header = [0; HEADER];
    match reader.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(LoadError::Foreign),
        result => result?,
    }
    let (magic, version) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(LoadError::Foreign);
    }
    let found = u32::from_le_bytes(version.try_into().expect("four bytes follow the magic"));
    if (OLDEST..=VERSION).contains(&found) { Ok(found) } else { Err(LoadError::Version { found }) }
}

/// Why a record cannot be had.
enum Bad {
    Damaged(&'static str),
    Read(io::Error),
}

impl Bad {
    fn into_io(self) -> io::Error {
        match self {
            Self::Damaged(reason) => io::Error::new(io::ErrorKind::InvalidData, reason),
            Self::Read(error) => error,
        }
    }
}

/// The next record, read into `body`; none at the end of the file.
fn read_record<'a>(reader: &mut impl BufRead, body: &'a mut Vec<u8>) -> Result<Option<Record<'a>>, Bad> {
    body.clear();
    let prefix = reader.take(PREFIX as u64).read_to_end(body).map_err(Bad::Read)?;
    if prefix == 0 {
        return Ok(None);
    }
    let Some((length, checksum)) = body.split_first_chunk::<4>() else {
        return Err(Bad::Damaged("it ends in the middle of a record"));
    };
    let Ok(checksum) = <[u8; 4]>::try_from(checksum) else {
        return Err(Bad::Damaged("it ends in the middle of a record"));
    };
    let length_field = u32::from_le_bytes(*length);
    let length = usize::try_from(length_field).unwrap_or(usize::MAX);
    if length > BODY_AT_MOST {
        return Err(Bad::Damaged("a record is longer than any object"));
    }
    body.clear();
    // Grows with what is there: a length alone reserves nothing.
    let read = reader.take(u64::from(length_field)).read_to_end(body).map_err(Bad::Read)?;
    if read < length {
        return Err(Bad::Damaged("it ends in the middle of a record"));
    }
    if record::checksum(length_field, body) != u32::from_le_bytes(checksum) {
        return Err(Bad::Damaged("the checksum of a record is wrong"));
    }
    record::parse(body).map(Some).ok_or(Bad::Damaged("a record makes no sense"))
}

/// What distinguishes objects.
fn key(entry: &Entry<'_>) -> Box<[u8]> {
    // None of them has a NUL: the API allows letters, digits and some punctuation.
    [entry.kind, entry.namespace, entry.name].join("\0").into_bytes().into()
}
