//! How load-balancer addresses are announced. Not in kube-proxy.

use std::path::PathBuf;

use crate::config::Announcement;
use crate::object::Object;
use crate::problems::Problems;

/// The longest name of an interface, bytes (`IFNAMSIZ` without its end).
const LONGEST_NAME: usize = 15;
/// Tables that packets are routed by: default, main and local, and that of mode ipvs.
const USED_TABLES: [i64; 4] = [253, 254, 255, 20_556];

/// Checks the section `announcement`. Whoever has `pools` wants their addresses to be reached.
pub(crate) fn announcement(object: &Object, pools: bool, problems: &mut Problems<'_>) -> Announcement {
    let given = &object.announcement;
    let layer2 = given.layer2.unwrap_or(pools);
    let key_file = Some(&given.key_file).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut interfaces = Vec::new();
    for (i, pattern) in given.interfaces.iter().enumerate() {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let usable = !pattern.is_empty()
            && name.len() <= LONGEST_NAME
            && !name.contains(|c: char| c == '*' || c == '/' || c.is_whitespace());
        if usable {
            interfaces.push(pattern.clone());
        } else {
            problems.error(
                &format!("announcement.interfaces[{i}]"),
                format!("{pattern:?} is not the name of an interface, or its beginning and a *, such as eth0 or eth*"),
            );
        }
    }
    if !layer2 {
        let unused = [
            ("announcement.keyFile", key_file.is_some()),
            ("announcement.interfaces", !interfaces.is_empty()),
        ];
        for (field, _) in unused.into_iter().filter(|(_, given)| *given) {
            problems.warn(field, "no effect: announcement.layer2 is not true".to_owned());
        }
    }
    let routing_table = given.routing_table.filter(|number| *number != 0).and_then(|number| {
        let table = u32::try_from(number).ok().filter(|_| !USED_TABLES.contains(&number));
        if table.is_none() {
            problems.error(
                "announcement.routingTable",
                format!("{number} is not in 1-4294967295, or packets are routed by it: 253, 254, 255, 20556"),
            );
        }
        table
    });
    Announcement { layer2, key_file, interfaces, routing_table }
}
