//! Virtual servers as a table of the rule set: packets meet them at two hooks, as they meet rules.

use portolan_service::Family;

use super::{Serves, VirtualServer, VirtualServers};
use crate::ruleset::{
    Action, Base, Chain, Field, Operand, Part, Ranges, Rule, Ruleset, StandIn, TO_NODE, Table, TableFamily,
    Test, Tool, Translation,
};
use crate::value::address_value;

/// The name of the table.
const NAME: &str = "IPVS";
const CHAIN: &str = "virtual-servers";

impl Ruleset {
    /// Adds virtual servers: all that there are. Packets meet them where the kernel looks for one.
    pub fn add_virtual_servers(&mut self, servers: &VirtualServers) {
        let mut tables = Vec::new();
        for family in Family::ALL {
            let mut of_family: Vec<&VirtualServer> =
                servers.servers.iter().filter(|server| server.serves.family() == family).collect();
            if of_family.is_empty() && !self.lacks_virtual_servers(family) {
                continue;
            }
            // As `ip_vs_service_find` looks for them.
            of_family.sort_by_key(|server| match server.serves {
                Serves::Mark(..) => 0,
                Serves::Address(_, address) if address.port() != 0 => 1,
                Serves::Address(..) => 2,
            });
            let rules = of_family.into_iter().map(|server| rule(server, servers)).collect();
            tables.push(table(family, rules));
        }
        self.merge(Ruleset::of(tables));
    }

    /// Says that there are virtual servers for packets of `family`, and that they are not known.
    pub fn miss_virtual_servers(&mut self, family: Family) {
        let unknown = Rule {
            text: "a virtual server of IPVS".into(),
            comment: None,
            parts: Box::new([Part::Action(Action::Unknown("a virtual server of IPVS".into()))]),
        };
        let mut table = table(family, vec![unknown]);
        table.stand_in = Some(StandIn::VirtualServers);
        self.merge(Ruleset::of(vec![table]));
    }
}

fn table(family: Family, rules: Vec<Rule>) -> Table {
    let mut table = Table::new(TableFamily::Only(family), NAME, Tool::Ipvs);
    let base: Base = TO_NODE;
    let mut chain = Chain::new(CHAIN, Some(base));
    chain.rules = rules;
    table.chains.push(chain);
    table
}

fn rule(server: &VirtualServer, all: &VirtualServers) -> Rule {
    let is = |field: Field, value: u128| {
        let operand = Operand::from(field);
        Part::Test(Test::Compare { operand, ranges: Ranges::value(value), negate: false })
    };
    let mut parts = match server.serves {
        Serves::Mark(_, mark) => vec![is(Field::Mark, mark.into())],
        Serves::Address(protocol, address) => {
            let mut parts = vec![
                is(Field::Destination(Family::of(address.ip())), address_value(address.ip())),
                is(Field::Protocol, protocol.number().into()),
            ];
            if address.port() != 0 {
                parts.push(is(Field::DestinationPort, address.port().into()));
            }
            parts
        }
    };
    let balance = Box::new(server.balance(all));
    parts.push(Part::Action(Action::Destination(Translation::Balanced(balance))));
    Rule { text: server.to_string().into(), comment: None, parts: parts.into() }
}
