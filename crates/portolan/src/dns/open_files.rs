//! How many files and sockets may be open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Raises the limit of open files as far as a process may raise it by itself. Each client's
/// connection is one, and the usual limit is below the number that is accepted.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        debug!("the limit of open files stays at {current:?}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_becomes_the_highest_that_is_allowed() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Other tests of this process go on with hardly less.
        let current = Some(maximum.map_or(65_536, |maximum| maximum - 1));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
