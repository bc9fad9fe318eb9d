//! Who sends a request.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::exec::Plugin;
use super::header::bearer;

/// A token file is read again this often, as client-go does.
const READ_AGAIN: Duration = Duration::from_secs(50);
/// No token is longer; a file that is has something else in it.
const LENGTH: u64 = 1 << 20;

/// How to say who sends a request, as the configuration has it.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Not at all, or by a certificate that the configuration has.
    None,
    /// By a header that stays the same.
    Fixed(HeaderValue),
    /// By a token in a file.
    File(TokenFile),
    /// By what a program says.
    Exec(Box<Plugin>),
}

/// The header `Authorization` of each request.
#[derive(Debug)]
pub(crate) enum Authorization {
    None,
    Fixed(HeaderValue),
    File(TokenFile),
}

impl Authorization {
    /// The header as it is now.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        match self {
            Authorization::None => None,
            Authorization::Fixed(value) => Some(value.clone()),
            Authorization::File(file) => Some(file.header()),
        }
    }
}

/// A token in a file that somebody replaces from time to time.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    last: RefCell<(HeaderValue, Instant)>,
}

impl TokenFile {
    /// Reads the token at `path`; `or` is the one to use while none can be read. The error says why
    /// there is none.
    pub(super) fn open(path: PathBuf, or: Option<HeaderValue>) -> Result<TokenFile, String> {
        let header = match (read(&path), or) {
            (Ok(header), _) | (Err(_), Some(header)) => header,
            (Err(reason), None) => return Err(format!("{}: {reason}", path.display())),
        };
        Ok(TokenFile { path, last: RefCell::new((header, Instant::now())) })
    }

    /// The header with the token. If the file cannot be read any more, with the one that it had
    /// before.
    fn header(&self) -> HeaderValue {
        let mut last = self.last.borrow_mut();
        if last.1.elapsed() >= READ_AGAIN {
            match read(&self.path) {
                Ok(header) => last.0 = header,
                Err(reason) => {
                    tracing::warn!(path = %self.path.display(), reason, "the last token that could be read is used");
                }
            }
            last.1 = Instant::now();
        }
        last.0.clone()
    }
}

fn read(path: &std::path::Path) -> Result<HeaderValue, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(LENGTH).read_to_string(&mut text).map_err(|error| error.to_string())?;
    bearer(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_token_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(TokenFile::open(path.clone(), None).unwrap_err().contains("token"), "names the file");
        std::fs::write(&path, "one\n").unwrap();
        let file = TokenFile::open(path.clone(), None).unwrap();
        let later = |file: &TokenFile| {
            let mut last = file.last.borrow_mut();
            last.1 = last.1.checked_sub(READ_AGAIN).unwrap();
        };
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(file.header(), "Bearer one", "not read at each request");
        later(&file);
        assert_eq!(file.header(), "Bearer two");
        std::fs::write(&path, "").unwrap();
        later(&file);
        assert_eq!(file.header(), "Bearer two", "an empty file is one that is being written");
        let fallback = TokenFile::open(folder.path().join("none"), Some(bearer("three").unwrap())).unwrap();
        assert_eq!(fallback.header(), "Bearer three");
    }
}
