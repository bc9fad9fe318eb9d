//! The search list of the host, which pods have after the cluster's domains.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use portolan_names::wire::Name;

/// As much of the file is read, octets.
const FILE_MAX: u64 = 1 << 20;

/// The domains that the file at `path`, in the form of resolv.conf(5), says to search. None, if
/// there is no such file.
pub(super) fn of(path: &Path) -> Vec<String> {
    read(path).map(|text| parse(&text)).unwrap_or_default()
}

fn read(path: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// The last line counts. What is no domain is left out.
fn parse(text: &str) -> Vec<String> {
    let mut list = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let count = match words.next() {
            Some("search") => usize::MAX,
            Some("domain") => 1,
            _ => continue,
        };
        list = words.take(count).map(|word| word.trim_end_matches('.').to_owned()).collect();
    }
    list.retain(|domain| Name::parse(domain).is_some());
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_to_search() {
        for (text, expected) in [
            ("nameserver 192.0.2.1\nsearch a.example b.example.\n", &["a.example", "b.example"][..]),
            ("domain a.example b.example", &["a.example"]),
            ("search a.example\nsearch b.example", &["b.example"]),
            ("search .", &[]),
            ("search a..b c", &["c"]),
            ("#search a", &[]),
            ("", &[]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert!(of(Path::new("/no/such/file")).is_empty());
    }
}
