//! Problems in the log: what is new, and what is solved.

use std::fmt::Display;

use tracing::{info, warn};

/// At most this many problems are logged at once, new ones and solved ones each. The others are
/// counted.
const LOGGED: usize = 100;

/// Logs problems that are new and problems that are solved. `remedy` says where the rest is found;
/// it begins with a separator, or is empty.
pub(crate) fn report<P: Display>(new: &[P], solved: &[P], remedy: &str) {
    for problem in new.iter().take(LOGGED) {
        warn!("{problem}");
    }
    for problem in solved.iter().take(LOGGED) {
        info!("solved: {problem}");
    }
    let [new, solved] = [new, solved].map(|all| all.len().saturating_sub(LOGGED));
    if new + solved > 0 {
        warn!("{new} more problems, and {solved} more that are solved{remedy}");
    }
}
