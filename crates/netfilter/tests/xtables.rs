//! Tables of iptables-legacy: what is left out is left out, and nothing else changes. (Against the
//! kernel's own tables this is tested where kube-proxy's rules are removed.)

use portolan_netfilter::nft::TableFamily;
use portolan_netfilter::xtables::{Info, Malformed, Place, Refusal, Table};
use proptest::prelude::*;

/// A rule, as far as the layout goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Jumps to the user's chain of this number
    Jump(usize),
    /// Counts, and goes on with the next
    Count,
    /// A verdict
    Accept,
    /// An extension with matches of this length, a multiple of 8
    Extension(usize),
}

/// The chains of hooks 1 to 3, as table `filter` has them, and the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    family: TableFamily,
    base: [Vec<Rule>; 3],
    user: Vec<Vec<Rule>>,
}

const TARGET: usize = 32;

/// Where the offsets are in an entry, and how long it is without matches and target, on 64-bit
/// machines
fn entry_layout(family: TableFamily) -> (usize, usize) {
    match family {
        TableFamily::Ip => (88, 112),
        TableFamily::Ip6 => (140, 168),
    }
}

/// An entry with a mark of its own in the address, which nothing may change.
fn entry(family: TableFamily, mark: u32, matches: usize, name: &str, data: &[u8]) -> Vec<u8> {
    let (offsets, head) = entry_layout(family);
    let mut bytes = vec![0; head + matches];
    bytes[..4].copy_from_slice(&mark.to_ne_bytes());
    let target = bytes.len();
    let len = (TARGET + data.len()).next_multiple_of(8);
    bytes.resize(target + len, 0);
    bytes[offsets..offsets + 2].copy_from_slice(&u16::try_from(target).unwrap().to_ne_bytes());
    bytes[offsets + 2..offsets + 4].copy_from_slice(&u16::try_from(target + len).unwrap().to_ne_bytes());
    bytes[target..target + 2].copy_from_slice(&u16::try_from(len).unwrap().to_ne_bytes());
    bytes[target + 2..target + 2 + name.len()].copy_from_slice(name.as_bytes());
    bytes[target + TARGET..target + TARGET + data.len()].copy_from_slice(data);
    bytes
}

fn error_entry(family: TableFamily, name: &str) -> Vec<u8> {
    let mut field = [0; 30];
    field[..name.len()].copy_from_slice(name.as_bytes());
    entry(family, 0, 0, "ERROR", &field)
}

fn verdict(family: TableFamily, mark: u32, verdict: i32) -> Vec<u8> {
    entry(family, mark, 0, "", &verdict.to_ne_bytes())
}

impl Model {
    /// The block of memory that says this.
    fn block(&self) -> (Info, Vec<u8>) {
        let family = self.family;
        let len = |rule: &Rule| match rule {
            Rule::Extension(matches) => entry(family, 0, *matches, "LOG", &[0; 8]).len(),
            _ => verdict(family, 0, 0).len(),
        };
        let (fixed, head) = (verdict(family, 0, 0).len(), error_entry(family, "").len());
        let mut starts = Vec::new();
        let mut at: usize = self.base.iter().map(|rules| rules.iter().map(len).sum::<usize>() + fixed).sum();
        for rules in &self.user {
            starts.push(at + head);
            at += head + rules.iter().map(len).sum::<usize>() + fixed;
        }
        let mut info =
            Info { valid_hooks: 0b1110, hook_entry: [0; 5], underflow: [0; 5], entries: 0, size: 0 };
        let mut bytes = Vec::new();
        let mut mark = 1;
        let mut put = |entry: Vec<u8>, bytes: &mut Vec<u8>| {
            info.entries += 1;
            bytes.extend_from_slice(&entry);
        };
        let mut put_rules =
            |rules: &[Rule], bytes: &mut Vec<u8>, put: &mut dyn FnMut(Vec<u8>, &mut Vec<u8>)| {
                for rule in rules {
                    mark += 1;
                    let next = bytes.len() + len(rule);
                    let entry = match rule {
                        Rule::Jump(to) => verdict(family, mark, i32::try_from(starts[*to]).unwrap()),
                        Rule::Count => verdict(family, mark, i32::try_from(next).unwrap()),
                        Rule::Accept => verdict(family, mark, -2),
                        Rule::Extension(matches) => entry(family, mark, *matches, "LOG", &[7; 8]),
                    };
                    put(entry, bytes);
                }
            };
        let mut places = Vec::new();
        for rules in &self.base {
            let start = bytes.len();
            put_rules(rules, &mut bytes, &mut put);
            places.push((start, bytes.len()));
            put(verdict(family, 0, -2), &mut bytes);
        }
        for (number, rules) in self.user.iter().enumerate() {
            put(error_entry(family, &format!("chain-{number}")), &mut bytes);
            put_rules(rules, &mut bytes, &mut put);
            put(verdict(family, 0, -5), &mut bytes);
        }
        put(error_entry(family, "ERROR"), &mut bytes);
        for (hook, (start, policy)) in (1..).zip(places) {
            info.hook_entry[hook] = u32::try_from(start).unwrap();
            info.underflow[hook] = u32::try_from(policy).unwrap();
        }
        info.size = u32::try_from(bytes.len()).unwrap();
        (info, bytes)
    }

    fn table(&self) -> Result<Table, Malformed> {
        let (info, bytes) = self.block();
        Table::parse(self.family, "filter", info, bytes)
    }
}

fn model() -> impl Strategy<Value = Model> {
    let family = prop_oneof![Just(TableFamily::Ip), Just(TableFamily::Ip6)];
    (family, 0..6usize).prop_flat_map(|(family, chains)| {
        let jump =
            if chains == 0 { Just(Rule::Accept).boxed() } else { (0..chains).prop_map(Rule::Jump).boxed() };
        let rule = prop_oneof![
            3 => jump,
            1 => Just(Rule::Count),
            1 => Just(Rule::Accept),
            2 => (0..20usize).prop_map(|words| Rule::Extension(words * 8)),
        ];
        let rules = prop::collection::vec(rule, 0..6);
        ([rules.clone(), rules.clone(), rules.clone()], prop::collection::vec(rules, chains))
            .prop_map(move |(base, user)| Model { family, base, user })
    })
}

/// A chain's name, and its rules: their bytes but for where they lead to, and the name of the chain
/// that they jump to.
type Content = (String, Vec<(Vec<u8>, Option<String>)>);

fn content(table: &Table) -> Vec<Content> {
    let name = |place: &Place| match place {
        Place::Hook(hook) => format!("hook {hook}"),
        Place::User(name) => name.clone(),
    };
    let (offsets, _) = entry_layout(table.family());
    let mut starts = vec![0];
    while let Some(start) = starts.last().copied().filter(|start| *start < table.as_bytes().len()) {
        let next =
            table.as_bytes()[start + offsets + 2..].first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        starts.push(start + usize::from(next.unwrap()));
    }
    table
        .chains()
        .iter()
        .map(|chain| {
            let rules = chain.rules.clone().map(|rule| {
                let mut bytes = table.as_bytes()[starts[rule]..starts[rule + 1]].to_vec();
                let target = table.jump(rule).map(|chain| name(&table.chains()[chain].place));
                let verdict = bytes.len() - 8;
                // Where a jump leads to is compared by name, and where a count leads to follows
                // from its place.
                if bytes[verdict - TARGET + 2] == 0 && bytes[verdict + 3] & 0x80 == 0 {
                    bytes[verdict..verdict + 4].fill(0);
                }
                (bytes, target)
            });
            (name(&chain.place), rules.collect())
        })
        .collect()
}

proptest! {
    #[test]
    fn nothing_left_out_changes_nothing(model in model()) {
        let table = model.table().unwrap();
        let same = table.without(&[], &[]).unwrap();
        prop_assert_eq!(&same.table, &table);
        prop_assert_eq!(same.origins, (0..table.entries()).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_left_is_as_it_was(model in model(), picks in prop::collection::vec(any::<bool>(), 64)) {
        let table = model.table().unwrap();
        let user: Vec<usize> = (3..table.chains().len()).filter(|chain| picks[*chain]).collect();
        // Rules that lead to what goes, and some others.
        let stays = |chain: usize| !user.contains(&chain);
        let rules: Vec<usize> = (0..table.chains().len())
            .filter(|chain| stays(*chain))
            .flat_map(|chain| table.chains()[chain].rules.clone())
            .filter(|rule| table.jump(*rule).is_some_and(|chain| !stays(chain)) || picks[rule % 64])
            .collect();
        let reduced = table.without(&user, &rules).unwrap();

        let mut expected = content(&table);
        for (chain, (_, of_chain)) in expected.iter_mut().enumerate() {
            let mut numbers = table.chains()[chain].rules.clone();
            of_chain.retain(|_| !rules.contains(&numbers.next().unwrap()));
        }
        let mut chain = 0..;
        expected.retain(|_| stays(chain.next().unwrap()));
        prop_assert_eq!(content(&reduced.table), expected);
        prop_assert_eq!(reduced.table.entries(), reduced.origins.len());
        prop_assert!(reduced.origins.is_sorted());
    }

    #[test]
    fn any_bytes_are_read_or_refused(model in model(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let (mut info, mut bytes) = model.block();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(table) = Table::parse(model.family, "filter", info, bytes.clone()) {
            for chain in 0..table.chains().len() {
                let without = table.without(&[chain], &[]);
                prop_assert!(!matches!(without, Err(Refusal::Malformed(_))), "{:?}", without);
            }
        }
        bytes.truncate(cut.index(bytes.len()));
        info.size = u32::try_from(bytes.len()).unwrap();
        prop_assert!(Table::parse(model.family, "filter", info, bytes).is_err());
    }
}

fn example() -> Model {
    Model {
        family: TableFamily::Ip,
        base: [vec![Rule::Jump(0), Rule::Count], vec![], vec![Rule::Accept]],
        user: vec![vec![Rule::Jump(1)], vec![Rule::Extension(16)]],
    }
}

#[test]
fn refusals() {
    let table = example().table().unwrap();
    // situation, chains, rules, why not
    let cases: [(&str, &[usize], &[usize], Refusal); 6] = [
        ("a rule leads there", &[3], &[], Refusal::InUse("chain-0".into())),
        ("a rule of another chain leads there", &[4], &[0], Refusal::InUse("chain-1".into())),
        ("a built-in chain", &[0], &[], Refusal::Structure(0)),
        ("no chain", &[9], &[], Refusal::Structure(9)),
        ("a policy", &[], &[2], Refusal::Structure(2)),
        ("the end of the table", &[], &[99], Refusal::Structure(99)),
    ];
    for (name, chains, rules, why) in cases {
        assert_eq!(table.without(chains, rules), Err(why), "{name}");
    }
    assert!(table.without(&[3, 4], &[0]).is_ok());
}

#[test]
fn malformed_tables() {
    type Change = fn(&mut Info, &mut Vec<u8>);
    /// Changes a number of an entry: at 88 its target, at 90 its length; its target starts at 112.
    fn patch(bytes: &mut [u8], at: usize, number: u16) {
        bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
    }
    let cases: [(&str, Change, &str); 14] = [
        (
            "nothing",
            |info, bytes| {
                bytes.clear();
                info.size = 0;
                info.entries = 0;
            },
            "last entry is missing",
        ),
        (
            "one byte less",
            |_, bytes| {
                bytes.pop();
            },
            "not as long",
        ),
        ("one entry more", |info, _| info.entries += 1, "not as many entries"),
        ("an entry of no length", |_, bytes| patch(bytes, 90, 0), "target lies outside"),
        ("an odd length", |_, bytes| patch(bytes, 90, 151), "length is impossible"),
        ("a length beyond the table", |_, bytes| patch(bytes, 90, 0xfff8), "length is impossible"),
        ("a target before the matches", |_, bytes| patch(bytes, 88, 104), "target lies outside"),
        ("a target beyond the entry", |_, bytes| patch(bytes, 88, 152), "target lies outside"),
        ("a target longer than the entry", |_, bytes| patch(bytes, 112, 48), "target's length"),
        ("a verdict without room", |_, bytes| patch(bytes, 112, 32), "verdict is missing"),
        ("a jump between entries", |_, bytes| patch(bytes, 144, 8), "leads to no chain"),
        ("a jump to a policy", |_, bytes| patch(bytes, 144, 304), "leads to no chain"),
        ("a hook between entries", |info, _| info.hook_entry[1] = 8, "starts at no entry"),
        (
            "a policy that is not the chain's last",
            |info, _| info.underflow[1] = 152,
            "does not end with its policy",
        ),
    ];
    for (name, change, expected) in cases {
        let (mut info, mut bytes) = example().block();
        change(&mut info, &mut bytes);
        let error = Table::parse(TableFamily::Ip, "filter", info, bytes).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
