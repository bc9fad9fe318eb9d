//! Names that are like another one, for people who slipped.

/// The names most like `wanted`, as `namespace/name`, for people who mistyped: first the same name
/// in another namespace, then names with few other letters.
pub(super) fn nearest(wanted: &str, mut all: Vec<String>) -> String {
    const SHOWN: usize = 5;
    all.sort();
    all.dedup();
    let split = |name: &str| -> (String, String) {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        (namespace.to_owned(), name.to_owned())
    };
    let (namespace, name) = split(wanted);
    let few_letters = |word: &str| (word.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &String)> = all
        .iter()
        .filter_map(|candidate| {
            let (other_namespace, other) = split(candidate);
            let slips = edits(&name, &other);
            let alike = slips <= few_letters(&name);
            let part = name.len().min(other.len()) > 2 && (other.contains(&name) || name.contains(&other));
            let elsewhere = edits(&namespace, &other_namespace);
            let rank = match (elsewhere, slips) {
                (_, 0) => elsewhere,
                (0, _) if alike => slips,
                (0, _) if part => few_letters(&name) + 1,
                (1..=2, _) if alike => 5 + slips,
                (_, _) if alike || part => 100 + slips,
                _ => return None,
            };
            Some((rank, candidate))
        })
        .collect();
    near.sort();
    // Those of other namespaces and names are none if there are better ones.
    let best = near.first().map_or(0, |(rank, _)| *rank);
    near.retain(|(rank, _)| *rank < 100 || best >= 100);
    let names: Vec<&str> = near.iter().take(SHOWN).map(|(_, name)| name.as_str()).collect();
    match (names.is_empty(), all.len()) {
        (false, _) => format!(": is {} meant?", names.join(" or ")),
        (true, 0) => String::new(),
        (true, 1..=SHOWN) => format!("; known are {}", all.join(", ")),
        (true, count) => format!(" ({count} others are known)"),
    }
}

/// How many letters must be changed, left out, added or swapped with their neighbour to turn one
/// word into the other (optimal string alignment).
fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let changed = last[column] + usize::from(letter != against);
            let mut least = changed.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *against;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let all = ["shop/web", "shop/cart", "default/kubernetes", "kube-system/kube-dns", "shop/db", "a/b"];
        for (wanted, expected) in [
            ("shop/wbe", ": is shop/web meant?"),
            ("shop/webs", ": is shop/web meant?"),
            ("default/web", ": is shop/web meant?"),
            ("shpo/cart", ": is shop/cart meant?"),
            ("kube-system/coredns", " (6 others are known)"),
            ("kube-system/dns", ": is kube-system/kube-dns meant?"),
            ("shop/zebra", " (6 others are known)"),
        ] {
            let all = all.map(str::to_owned).to_vec();
            assert_eq!(nearest(wanted, all), expected, "{wanted}");
        }
        assert_eq!(nearest("shop/zebra", vec!["a/b".into(), "c/d".into()]), "; known are a/b, c/d");
        assert_eq!(nearest("shop/zebra", Vec::new()), "");
        for (one, other, expected) in
            [("", "", 0), ("web", "", 3), ("web", "wbe", 1), ("web", "wab", 1), ("abc", "ca", 3)]
        {
            assert_eq!(edits(one, other), expected, "{one} {other}");
        }
    }
}
