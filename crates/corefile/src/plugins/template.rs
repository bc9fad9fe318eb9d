//! `template`: answers that are made up, as far as they are a response code and nothing else.

use portolan_names::wire;

use super::domains_or;
use crate::directive::Directive;
use crate::problem::Complaints;
use crate::words::rcode;

/// Questions that are answered with a response code, before any other plugin sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The domains that the names are in.
    pub domains: Vec<String>,
    /// The type that is asked for; `None`: any.
    pub kind: Option<u16>,
    /// The code, below 16.
    pub rcode: u16,
}

/// What would make up records, or choose by more than the domain.
const NOT_HAD: [&str; 6] = ["match", "answer", "additional", "authority", "fallthrough", "ederror"];

/// `template CLASS TYPE [ZONE...] { rcode CODE }`; `None` for class CH, which nobody answers.
pub(crate) fn read(
    directive: &Directive,
    of_block: &[String],
    complaints: &mut Complaints<'_>,
) -> Option<Template> {
    let [class, kind, domains @ ..] = &*directive.args else {
        complaints.error(directive.place(), "takes a class and a type, such as: template IN AAAA");
        return None;
    };
    if !["IN", "ANY"].contains(&&*class.text.to_ascii_uppercase()) {
        complaints
            .error(&class.place, format!("{}: only class IN is answered: delete the plugin", class.text));
    }
    let all_types = kind.text.eq_ignore_ascii_case("ANY");
    let number = wire::kind::named(&kind.text.to_ascii_uppercase());
    if number.is_none() {
        complaints.error(&kind.place, format!("{:?} is no type of records, such as AAAA", kind.text));
    }
    let mut code = 0;
    for line in &directive.lines {
        match line.option() {
            "rcode" => {
                let named = line.one("one response code", complaints).and_then(rcode);
                match named.filter(|code| *code < 16) {
                    Some(named) => code = named,
                    None => line.error(complaints, "is no response code without EDNS, such as NXDOMAIN"),
                }
            }
            option if NOT_HAD.contains(&option) => line.error(
                complaints,
                "only response codes of whole domains are had: write names as lines of hosts, or forward \
                 the domain to a server that has this",
            ),
            _ => line.unknown(&["rcode"], complaints),
        }
    }
    let domains = domains_or(domains, of_block, complaints);
    Some(Template { domains, kind: number.filter(|_| !all_types), rcode: code })
}
