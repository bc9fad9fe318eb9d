//! The whole rule set and all virtual servers of a few plans: `tests/golden/ipvs-*.txt`, beside
//! those of mode nftables. With `PORTOLAN_BLESS=1` in the environment they are written instead of
//! compared.

use std::fmt::Write as _;

use portolan_netfilter::ipvs::ServerKey;
use portolan_service::{Family, ServicePlan};

use super::with_scheduler;
use crate::ipvs::integrity::describe;
use crate::ipvs::wanted::{marked_frontends, servers};
use crate::nftables::tests::dump::ruleset_of;
use crate::nftables::{Layout, MarkedPort};
use crate::tests::plans::{everything, settings};
use crate::variant::table_family;

/// A layout in which each port that needs one has a mark.
fn layout(plans: &[ServicePlan]) -> Layout {
    let mut layout = Layout::steer(0x4000);
    if let Layout::Steer { marks, .. } = &mut layout {
        for (plan, port) in plans.iter().flat_map(|plan| plan.ports.iter().map(move |port| (plan, port))) {
            if marked_frontends(port).next().is_some() {
                marks.assign(MarkedPort::new(plan, port), None);
            }
        }
    }
    layout
}

fn virtual_servers(layout: &Layout, plans: &[ServicePlan], family: Family) -> String {
    let mut text = String::from("virtual servers {\n");
    for plan in plans {
        let servers = servers(plan, &with_scheduler("rr"), |_| true, |port| layout.mark(plan, port));
        for server in servers.iter().filter(|server| server.key.family() == table_family(family)) {
            let persistence = match server.scheduling.persistence {
                Some(seconds) => format!(" persistent {seconds}"),
                None => String::new(),
            };
            let what = match server.key {
                ServerKey::Address(_) => describe(&server.key),
                ServerKey::Mark(_, mark) => format!("mark {mark:#010x}"),
            };
            writeln!(text, "  {what} {}{persistence} # {}", server.scheduling.scheduler, plan.name)
                .expect("writing to a string");
            for destination in &server.destinations {
                let weight = match destination.weight {
                    1 => String::new(),
                    weight => format!(" weight {weight}"),
                };
                writeln!(text, "    {} {}{weight}", destination.address, destination.port)
                    .expect("writing to a string");
            }
        }
    }
    text.push_str("}\n");
    text
}

#[test]
fn rules_and_virtual_servers_are_as_written_down() {
    let plans = everything();
    let layout = layout(&plans);
    for (name, family) in [("ipvs-ip", Family::V4), ("ipvs-ip6", Family::V6)] {
        let actual =
            ruleset_of(&layout, &settings(), &plans, family) + &virtual_servers(&layout, &plans, family);
        let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("PORTOLAN_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("the golden folder can be written");
        }
        let expected = std::fs::read_to_string(&path).expect("a golden file for each case");
        assert!(actual == expected, "{name}: {path} says\n{expected}\nbut it is\n{actual}");
    }
}
