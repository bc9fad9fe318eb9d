//! What the guest reports to the host, as frames of a stream: what the program writes, and how it
//! ended. A frame is a kind (1 octet), the length of what follows (4, little-endian), and that.

use std::io::{self, ErrorKind, Read, Write};

/// No frame has more content than this, in octets.
const LONGEST: usize = 1 << 16;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The program wrote this to its standard output.
    Output(Vec<u8>),
    /// The program wrote this to its standard error.
    Errors(Vec<u8>),
    /// The program has ended. It is the last report.
    End(End),
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Its exit status, or 128 and the signal that ended it.
    pub(crate) status: u8,
    /// What tainted the kernel meanwhile: bits of /proc/sys/kernel/tainted (admin-guide/
    /// tainted-kernels.rst).
    pub(crate) taint: u64,
}

const OUTPUT: u8 = b'o';
const ERRORS: u8 = b'e';
const END: u8 = b'x';

/// Writes one report, and no part of it if it is longer than a frame may be.
pub(crate) fn write(to: &mut impl Write, report: &Report) -> io::Result<()> {
    let (kind, content) = match report {
        Report::Output(text) => (OUTPUT, text.clone()),
        Report::Errors(text) => (ERRORS, text.clone()),
        Report::End(End { status, taint }) => (END, [&[*status][..], &taint.to_le_bytes()].concat()),
    };
    let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= LONGEST);
    let length = length.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    to.write_all(&[&[kind][..], &length.to_le_bytes(), &content].concat())
}

/// Reads one report; none where the stream ends before one begins.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Report>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let invalid = || io::Error::from(ErrorKind::InvalidData);
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| invalid())?;
    if length > LONGEST {
        return Err(invalid());
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content)?;
    Ok(Some(match kind[0] {
        OUTPUT => Report::Output(content),
        ERRORS => Report::Errors(content),
        END => {
            let (status, taint) = content.split_first().ok_or_else(invalid)?;
            let taint = u64::from_le_bytes(taint.try_into().map_err(|_| invalid())?);
            Report::End(End { status: *status, taint })
        }
        _ => return Err(invalid()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_as_they_were_written() {
        let reports = [
            Report::Output(b"to standard output".to_vec()),
            Report::Errors(vec![0; LONGEST]),
            Report::Output(Vec::new()),
            Report::End(End { status: 101, taint: 1 << 9 }),
        ];
        let mut stream = Vec::new();
        for report in &reports {
            write(&mut stream, report).unwrap();
        }
        let mut stream = &stream[..];
        for report in reports {
            assert_eq!(read(&mut stream).unwrap(), Some(report));
        }
        assert_eq!(read(&mut stream).unwrap(), None);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        assert!(write(&mut Vec::new(), &Report::Output(vec![0; LONGEST + 1])).is_err());
        for (name, stream) in [
            ("an unknown kind", &b"?\0\0\0\0"[..]),
            ("too long a report", b"o\xff\xff\xff\xff"),
            ("a length that breaks off", b"o\x01"),
            ("a content that breaks off", b"o\x02\0\0\0x"),
            ("an end without all of its fields", b"x\x01\0\0\0\0"),
        ] {
            assert!(read(&mut &stream[..]).is_err(), "{name}");
        }
    }
}
