//! Why something cannot be followed.

use std::io;

/// Why something cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `inotify_init1` says EMFILE.
    #[error(
        "there are too many inotify instances or open files; raise the sysctl fs.inotify.max_user_instances \
         or the limit of open files"
    )]
    Instances,
    /// `inotify_add_watch` says ENOSPC.
    #[error("the limit of watches is reached; raise the sysctl fs.inotify.max_user_watches")]
    Watches,
    /// A folder lies in too many others.
    #[error("more than {most} folders inside of each other")]
    Depth {
        /// How many are followed.
        most: usize,
    },
    /// A link leads to a folder that it lies in, so that following it would never end.
    #[error("it is a link to a folder around it")]
    Loop,
    /// The system says something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Error {
    /// Whether there is nothing to follow, because it is gone or is no folder.
    pub(crate) fn is_gone(&self) -> bool {
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        matches!(self, Error::System(error) if kinds.contains(&error.kind()))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::System(error) => error,
            other => io::Error::other(other),
        }
    }
}
