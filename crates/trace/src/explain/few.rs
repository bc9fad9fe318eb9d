//! Lists of which only the beginning is shown.

/// At most this many items are named.
const NAMED: usize = 8;

/// The first of `items`, and how many more there are.
pub(super) fn few(items: impl IntoIterator<Item = String>) -> String {
    let mut items = items.into_iter();
    let mut text: Vec<String> = items.by_ref().take(NAMED).collect();
    let more = items.count();
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}
