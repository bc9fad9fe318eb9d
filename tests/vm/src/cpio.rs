//! Archives that the kernel unpacks at its start: cpio in the format "newc"
//! (driver-api/early-userspace/buffer-format.rst).

use std::io::{self, ErrorKind, Write};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes an archive. Folders come before what is in them.
pub(crate) struct Writer<W> {
    to: W,
    /// Entries so far; each has a number of its own, as no two are one file.
    entries: u32,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W) -> Writer<W> {
        Writer { to, entries: 0 }
    }

    /// `path` is relative to the root, here and below; `permissions` as in chmod(2).
    pub(crate) fn folder(&mut self, path: &[u8], permissions: u32) -> io::Result<()> {
        self.entry(path, FOLDER | permissions, &[])
    }

    pub(crate) fn file(&mut self, path: &[u8], permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | permissions, content)
    }

    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.entry(path, LINK | 0o777, target)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(b"TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, name: &[u8], mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size =
            |length: usize| u32::try_from(length).map_err(|_| io::Error::from(ErrorKind::FileTooLarge));
        // Inode, mode, user, group, links, time, size, device and device number (two each), length
        // of the name, checksum (not in this format).
        let fields =
            [self.entries, mode, 0, 0, 1, 0, size(content.len())?, 0, 0, 0, 0, size(name.len() + 1)?, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08X}")?;
        }
        self.padded(&[&header, name, b"\0"])?;
        self.padded(&[content])
    }

    /// Writes the parts, and zeros up to a multiple of four octets.
    fn padded(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut length = 0;
        for part in parts {
            self.to.write_all(part)?;
            length += part.len();
        }
        self.to.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::Writer;

    /// A header and a name, with zeros as dots. Of the thirteen numbers, those that vary are the
    /// entry's, the mode, the size, and the length of the name.
    fn header(entry: u32, mode: u32, size: u32, length: u32, padded_name: &str) -> String {
        let devices = "00000000".repeat(4);
        format!(
            "070701{entry:08X}{mode:08X}00000000000000000000000100000000{size:08X}{devices}{length:08X}00000000\
             {padded_name}"
        )
    }

    #[test]
    fn headers_and_contents_begin_at_multiples_of_four() {
        let mut archive = Writer::new(Vec::new());
        archive.folder(b"etc", 0o755).unwrap();
        archive.file(b"etc/name", 0o644, b"guest").unwrap();
        archive.link(b"sh", b"busybox").unwrap();
        let written = String::from_utf8(archive.finish().unwrap()).unwrap().replace('\0', ".");
        let expected = [
            header(1, 0o040_755, 0, 4, "etc..."),
            header(2, 0o100_644, 5, 9, "etc/name.."),
            "guest...".to_owned(),
            header(3, 0o120_777, 7, 3, "sh...."),
            "busybox.".to_owned(),
            header(4, 0, 0, 11, "TRAILER!!!...."),
        ];
        assert_eq!(written, expected.concat());
    }
}
