//! Names of Services in comments.

use crate::nftables::staging::put_comment;

#[test]
fn names_are_whole_or_cut_visibly() {
    let (namespace, name, port) = ("n".repeat(63), "s".repeat(63), "p".repeat(15));
    let full = format!("{namespace}/{name}");
    #[rustfmt::skip]
    let cases = [
        ("no Service", "", "", String::new()),
        ("a port", "shop/web", "http", "shop/web:http".to_owned()),
        ("without a name of its port", "shop/web", "", "shop/web".to_owned()),
        ("127 bytes, with 63 of a namespace, 47 of a name, 15 of a port", &full[..63 + 1 + 47], &port, format!("{}:{port}", &full[..63 + 1 + 47])),
        ("the longest without a port name", &full, "", full.clone()),
        ("the longest", &full, &port, format!("{}...:{port}", &full[..63 + 1 + 44])),
    ];
    for (situation, service, port, expected) in cases {
        let mut comment = Vec::new();
        put_comment(&mut comment, service, port);
        assert_eq!(String::from_utf8(comment).expect("text"), expected, "{situation}");
        assert!(expected.len() <= 127, "{situation}");
    }
}
